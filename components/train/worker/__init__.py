"""A worker: the supervisor, and the process that trains."""
