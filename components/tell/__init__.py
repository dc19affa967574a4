"""Tells people and programs what became of a run. What happens and how it is decided, other stages know."""
