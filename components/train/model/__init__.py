"""What is computed: networks, optimizers, the compiled step, and which examples it takes."""
