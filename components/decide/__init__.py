"""Decides what a run for a champion has to do: what has changed, whether data is what it should be."""
