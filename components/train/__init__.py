"""Trains a trial, an arm with a seed, on one worker or several."""
