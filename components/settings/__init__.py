"""What an experiment and a deployment are, and what their values mean."""
