"""A plugin of tunnel-server: the keys of GitHub and GitLab users, organisations and groups may have tunnels."""

from tunnel_server_github_keys.policy import GitHubKeys

__all__ = ["GitHubKeys", "plugin"]

plugin = GitHubKeys
