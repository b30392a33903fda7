"""The asyncssh side: keys, forwards in, channels out, what the session prints."""
