"""The ACME side (RFC 8555): certificates ordered, proved, kept and renewed."""
