"""A self-hosted tunnel server: local services on the web over plain SSH."""
