"""The stage that chooses: ranks every arm's settings on validation, and passes the best to training."""
