"""The server's own policies, as plugins on the hooks that others have, too."""
