"""A plugin of tunnel-server: the keys of ``authorized_keys`` files, in the format of sshd(8), may have tunnels."""

from tunnel_server_authorized_keys.policy import AuthorizedKeys

__all__ = ["AuthorizedKeys", "plugin"]

plugin = AuthorizedKeys
