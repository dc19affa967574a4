"""The one client of the Kubernetes API, for the launcher of training jobs and for the doctor."""
