"""What the launcher, the workers and the training process agree on."""
