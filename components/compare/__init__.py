"""Compares the arms of a study: paired by seed, with an interval, a p-value and a sentence."""
