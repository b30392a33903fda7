"""Asks an HTTP endpoint who may log in, publish and visit, and posts events to it."""

from tunnel_server_webhook_policy.plugin import WebhookPolicy

__all__ = ["WebhookPolicy"]
