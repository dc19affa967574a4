"""The graph and the person: pipeline definition, command line, experiments. Never imports TensorFlow."""
