"""A trial from its first step to its exported model."""
