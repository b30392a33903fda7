"""The control plane: what the server answers in its own name."""
