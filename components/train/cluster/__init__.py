"""Runs a trial's workers as pods of a training job."""
