"""HTTP/2 for visitors (RFC 9113): h2 keeps the protocol's states, each stream is an exchange over a pooled channel."""
