"""The TLS port: who comes in, certificates, and TLS on a connection."""
