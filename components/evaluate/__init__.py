"""Evaluates a trained model on the split that it never learned from."""
