"""The policy of a private tunnel: what each request gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunnel_server import Allow, Answer, Challenge, Login, Refuse, Request, Tunnel
from tunnel_server.house.private_tunnels.credentials import Ambiguous, Explicit, cookies, explicit
from tunnel_server.house.private_tunnels.gate import Gate, Identity, Profile
from tunnel_server.house.private_tunnels.places import (
    CARRIED,
    HINT,
    KEPT,
    Places,
    cookie_name,
    of_head,
    parameter,
    with_parameter,
    without,
)
from tunnel_server.house.private_tunnels.sessions import Role, Session, Signed
from tunnel_server.house.private_tunnels.tokens import TokenRefused

if TYPE_CHECKING:
    from tunnel_server import Server

PASS = Allow()
PREFLIGHT = Allow(hidden=frozenset({"authorization", "cookie"}), bare=True)
PASS_WITHOUT_TOKEN = Allow(hidden=frozenset({"authorization"}))
CHALLENGE = Challenge('Basic realm="Secure Area"')
GUEST = Refuse(401, "You are signed in, but this tunnel is not shared with you.")
AMBIGUOUS = Refuse(400, "There is more than one Authorization field.")
NOT_KEPT = Refuse(
    401, "Your browser did not keep the cookie of the sign-in. Cookies have to be allowed, and the address be https."
)


class Guard:
    """Asked for each request to one tunnel; does no I/O."""

    def __init__(self, tunnel: Tunnel, server: Server, places: Places, gate: Gate, signed: Signed) -> None:
        self._tunnel = tunnel
        self._server = server
        self._places = places
        self._gate = gate
        self._signed = signed
        self._profile = Profile.of(tunnel.client)
        self._cookie = cookie_name(self._profile.thumbprint)

    def __call__(self, request: Request) -> Answer:
        """Return whether ``request`` may pass, or how to sign in."""
        if is_preflight(request):
            return PREFLIGHT
        host = self._places.host(request.host)
        session = self._session(request, host)
        carried = parameter(request.path, CARRIED) if CARRIED in request.path else None
        if session is not None and session.role is Role.ADMIN:
            return self._passed(request) if carried is None or request.method != "GET" else self._clean(request, host)
        if carried is not None and (answer := self._arrived(request, host, carried)) is not None:
            return answer
        try:
            return self._by_token(request, host, carried, session)
        except Ambiguous:
            return AMBIGUOUS

    def _session(self, request: Request, host: str) -> Session | None:
        """Return the visitor's session, that of an admin if there is one."""
        best: Session | None = None
        for value in cookies(request.headers("cookie"), self._cookie):
            found = self._signed.sessions.read(value, self._profile.thumbprint, self._places.scope(host))
            if found is not None and found.role is Role.ADMIN:
                return found
            best = best or found
        return best

    def _arrived(self, request: Request, host: str, carried: str) -> Answer | None:
        """Make a session of the ticket that a visitor brings from the login page."""
        if not self._places.scope(host):
            return None
        session = self._signed.tickets.read(carried, self._profile.thumbprint, host)
        return None if session is None else self._keep(request, host, session)

    def _by_token(self, request: Request, host: str, carried: str | None, session: Session | None) -> Answer:
        shown = explicit(request.headers("authorization"))
        try:
            if shown is not None:
                identity: Identity | None = self._gate.identify(shown.token, self._profile)
            else:
                identity = self._gate.by_cookies(request.headers("cookie"), self._profile)
        except TokenRefused as error:
            # What a page elsewhere has put there must not keep the visitor out for good.
            spent = () if shown is not None else self._places.spent_token_cookies(host, request.path)
            return Refuse(400, f"Sign-in failed: {error}.", tuple(("Set-Cookie", cookie) for cookie in spent))
        if identity is None:
            return self._nobody(request, host, carried, session)
        if identity.role is Role.GUEST:
            return GUEST
        return self._known(request, host, carried, identity, shown)

    def _nobody(self, request: Request, host: str, carried: str | None, session: Session | None) -> Answer:
        if session is not None:
            return GUEST
        if carried == KEPT and self._places.scope(host):
            return NOT_KEPT
        if parameter(request.path, HINT) == "basic":
            return CHALLENGE
        return Login(self._places.login(self._name(host), self._wanted(request)))

    def _known(
        self, request: Request, host: str, carried: str | None, identity: Identity, shown: Explicit | None
    ) -> Answer:
        """Let an admin pass; a browser gets a session, or it would have to show its token for ever."""
        is_bearer = shown is not None and shown.is_bearer
        if is_bearer or carried is not None or request.method != "GET" or not is_browser(request):
            return PASS if shown is None else PASS_WITHOUT_TOKEN
        session = self._signed.sessions.until(identity.role, identity.expires_at)
        if self._places.scope(host):
            return self._keep(request, host, session)
        return Login(self._places.login(self._name(host), self._wanted(request)), (self._set(session, host),))

    def _keep(self, request: Request, host: str, session: Session) -> Login:
        """Set a cookie for this host alone, and come back to see whether the browser took it."""
        back = with_parameter(self._wanted(request), CARRIED, KEPT)
        return Login(self._places.page(host, back), (self._set(session, host),))

    def _set(self, session: Session, host: str) -> str:
        thumbprint = self._profile.thumbprint
        value = self._signed.sessions.make(session, thumbprint, self._places.scope(host))
        return self._places.session_cookie(session, value, thumbprint, host)

    def _clean(self, request: Request, host: str) -> Login:
        return Login(self._places.page(host, self._wanted(request)))

    def _passed(self, request: Request) -> Allow:
        """Let a session pass. A browser goes on sending the token that it began with, which is still not the app's."""
        fields = request.headers("authorization")
        return PASS_WITHOUT_TOKEN if fields and any(map(self._is_ours, fields)) else PASS

    def _is_ours(self, field: str) -> bool:
        shown = explicit([field])
        if shown is None or not shown.is_bearer:
            return shown is not None
        try:
            self._gate.identify(shown.token, self._profile)
        except TokenRefused:
            return False
        return True

    def _wanted(self, request: Request) -> str:
        """Return the path and query that the visitor wants of the service, without what is ours."""
        return without(of_head(request.path), HINT, CARRIED)

    def _name(self, host: str) -> str:
        """Return what the tunnel is called where the visitor found it."""
        name = self._places.name(host)
        return name if self._server.find(name) is self._tunnel else self._tunnel.label


def is_preflight(request: Request) -> bool:
    """Tell whether a browser asks what a page elsewhere may send; that never has credentials (Fetch §3.2.2)."""
    return (
        request.method == "OPTIONS"
        and request.is_simple
        and request.path != "*"
        and bool(request.header("origin"))
        and bool(request.header("access-control-request-method"))
    )


def is_browser(request: Request) -> bool:
    """Tell whether a person looks on, as all browsers say."""
    return request.header("user-agent").startswith("Mozilla/")
