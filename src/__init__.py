"""A self-hosted tunnel server: local services on the web over plain SSH.

What is listed here is what a plugin may import, and stays as it is: see ``docs/plugins/compatibility.md``.
"""

from tunnel_server.domain import setting_types as reading
from tunnel_server.domain.access import Abstain, Allow, Answer, Challenge, Login, Refuse
from tunnel_server.domain.admission import Accept, Certificate, Reject
from tunnel_server.domain.errors import InvalidPlugin, InvalidSetting
from tunnel_server.domain.forward import ForwardRequest, Script
from tunnel_server.domain.identity import ClientId, Thumbprint
from tunnel_server.domain.naming import BaseUrl
from tunnel_server.domain.plugin_setting import Setting
from tunnel_server.domain.ports import DnsChallenge
from tunnel_server.domain.tunnel import Access, Client, Tunnel
from tunnel_server.domain.visit import FinishedRequest, Headers, Request
from tunnel_server.hookspecs import Command, CommandFailed, Invocation, RequestPolicy, Route, Server, hookimpl

__all__ = [
    "Abstain",
    "Accept",
    "Access",
    "Allow",
    "Answer",
    "BaseUrl",
    "Certificate",
    "Challenge",
    "Client",
    "ClientId",
    "Command",
    "CommandFailed",
    "DnsChallenge",
    "FinishedRequest",
    "ForwardRequest",
    "Headers",
    "InvalidPlugin",
    "InvalidSetting",
    "Invocation",
    "Login",
    "Refuse",
    "Reject",
    "Request",
    "RequestPolicy",
    "Route",
    "Script",
    "Server",
    "Setting",
    "Thumbprint",
    "Tunnel",
    "hookimpl",
    "reading",
]
