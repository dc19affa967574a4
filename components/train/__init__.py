"""Trains trials: a component, its library, and launchers that bring workers to this host or to a cluster."""
