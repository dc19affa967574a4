"""Talks to Kubeflow Pipelines."""
