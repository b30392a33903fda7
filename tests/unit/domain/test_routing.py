from __future__ import annotations

import pytest

from tunnel_server.domain.naming import BaseUrl
from tunnel_server.domain.routing import Router, Surface, ToControl, ToTunnel

ROUTER = Router(BaseUrl.parse("http://tunnels.test:3000"))


@pytest.mark.parametrize(
    "host", ["web-k.tunnels.test", "WEB-K.Tunnels.TEST", "web-k.tunnels.test:3000", "web-k.tunnels.test.",
     "web-k.tunnels.test.:80"]
)  # fmt: skip
def test_a_label_before_the_base_host_is_a_tunnel_in_any_case_with_any_port(host: str) -> None:
    assert ROUTER.route(host, "/proxy/x/y") == ToTunnel("web-k", "/proxy/x/y")


@pytest.mark.parametrize(
    ("path", "label", "rest"),
    [
        ("/proxy/web-k/a/b?c", "web-k", "/a/b?c"),
        ("/proxy/web-k", "web-k", "/"),
        ("/proxy/web-k?x=1", "web-k", "/?x=1"),
        ("/proxy/web-k/%2e%2e/", "web-k", "/%2e%2e/"),
    ],
)
@pytest.mark.parametrize("host", ["tunnels.test", "localhost:3000", "10.0.0.1", "", "proxy.tunnels.test", "[::1]:3000"])
def test_any_other_host_serves_tunnels_by_path(host: str, path: str, label: str, rest: str) -> None:
    assert ROUTER.route(host, path) == ToTunnel(label, rest, f"/proxy/{label}")


@pytest.mark.parametrize(("host", "surface"), [("auth.tunnels.test", Surface.AUTH), ("api.tunnels.test", Surface.API)])
def test_the_reserved_hosts_never_serve_tunnels(host: str, surface: Surface) -> None:
    assert ROUTER.route(host, "/proxy/web-k/a") == ToControl(surface)
    assert ROUTER.route(host, "/") == ToControl(surface)


@pytest.mark.parametrize("path", ["/", "/healthz", "/proxy", "/proxy/", "/proxy//x", "/proxyx/web"])
def test_everything_else_is_the_server_itself(path: str) -> None:
    assert ROUTER.route("tunnels.test:3000", path) == ToControl(Surface.ROOT)
    assert ROUTER.route("eviltunnels.test", path) == ToControl(Surface.ROOT)
