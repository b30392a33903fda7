"""systemd: the sockets it passes to the service, and what the service tells it."""
