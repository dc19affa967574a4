"""Checks a cluster before anything is spent on it."""
