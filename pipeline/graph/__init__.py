"""The graph: one definition for a laptop and for a cluster."""
