"""The HTTP/1.1 relay: from a visitor's socket onto a pooled channel of the tunnel, and back."""
