"""What is said to an ACME server for one certificate, step by step. Blocks. Import only where ACME is in use."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import requests
from acme import challenges, client, errors, messages
from cryptography.hazmat.primitives import hashes
from josepy.b64 import b64encode
from josepy.jwk import JWKEC

from tunnel_server.adapters.acme.network import Network
from tunnel_server.adapters.acme.options import AcmeOptions
from tunnel_server.adapters.acme.pair import Pair, key_pem, new_key, signing_request
from tunnel_server.adapters.acme.proof import Proof
from tunnel_server.adapters.acme.store import Store
from tunnel_server.adapters.acme.worker import Lifeline
from tunnel_server.domain.errors import OrderFailed

MAX_REASON = 300  # characters of what a CA or a library says
MAX_PROOFS = 8  # one host has one authorization

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,256}")  # RFC 8555 §8.1
# Errors that are the server's or the account's, and so every host's (RFC 8555 §6.7).
_OUTAGES = frozenset(
    ["accountDoesNotExist", "badNonce", "badPublicKey", "badSignatureAlgorithm", "externalAccountRequired"]
) | frozenset(["invalidContact", "serverInternal", "unsupportedContact", "userActionRequired"])


class Conversation:
    """An order for one host, over connections of its own. ``lifeline`` cuts it short.

    Every method raises OrderFailed, and blocks no longer than the time limit of a few requests, unless the server
    sends drop by drop.
    """

    def __init__(self, options: AcmeOptions, store: Store, lifeline: Lifeline, clock: Callable[[], float]) -> None:
        self._options = options
        self._store = store
        self._clock = clock
        with self._explained():
            self._account_key = JWKEC(key=store.account_key())
            ca_file = str(options.ca_file) if options.ca_file else None
            self._network = Network(self._account_key, ca_file, options.request_timeout, lifeline)

    def begin(self, host: str, kinds: tuple[str, ...]) -> list[Proof]:
        """Order a certificate for ``host`` and return what is to be proved, each by the first of ``kinds`` offered.

        The list is empty where the CA still believes an earlier proof.
        """
        with self._explained():
            directory = client.ClientV2.get_directory(self._options.directory_url, self._network)
            self._client = client.ClientV2(directory, self._network)
            self._host = host
            self._key = new_key()
            self._order = self._new_order(signing_request(host, self._key))
            pending = [found for found in self._order.authorizations if found.body.status == messages.STATUS_PENDING]
            return [self._proof(authorization, kinds) for authorization in pending[:MAX_PROOFS]]

    def answer(self, proof: Proof) -> None:
        """Tell the CA to look at the answer that now stands."""
        with self._explained():
            self._post(proof.url, challenges.HTTP01Response())  # an empty object, whatever the kind

    def proved(self, proof: Proof) -> bool:
        """Return whether the CA is convinced, or has not decided yet."""
        with self._explained():
            body = messages.Authorization.from_json(self._post(proof.authorization).json())
            if body.status == messages.STATUS_PENDING:
                return False
            if body.status != messages.STATUS_VALID:
                raise OrderFailed(_clean(f"the CA does not accept the proof by {proof.kind}: {_complaints(body)}"))
            return True

    def finalize(self) -> None:
        """Ask for the certificate, once all is proved."""
        with self._explained():
            try:
                self._order = self._client.begin_finalization(self._order)
            except messages.Error as error:
                if error.code != "orderNotReady":
                    raise

    def fetch(self) -> Pair | None:
        """Return the certificate, or ``None`` while there is none yet."""
        with self._explained():
            order = messages.Order.from_json(self._post(self._order.uri).json())
            if order.status == messages.STATUS_INVALID:
                raise OrderFailed(_clean(f"the CA turned the order down: {order.error or 'it does not say why'}"))
            if order.status == messages.STATUS_READY:
                self.finalize()
            if order.status != messages.STATUS_VALID:
                return None
            return self._checked(self._post(order.certificate).content)

    def asked_delay(self) -> float | None:
        """Return the seconds after which the CA wants to be asked again, if it said so."""
        return self._network.asked_delay(time.time())

    def close(self) -> None:
        """Close the connections."""
        self._network.session.close()

    def _checked(self, chain: bytes) -> Pair:
        try:
            pair = Pair.check(self._host, chain, key_pem(self._key))
        except ValueError as error:
            raise OrderFailed(_clean(f"the CA's certificate is of no use: {error}")) from None
        if pair.not_after <= self._clock():
            raise OrderFailed("the CA's certificate has expired already; the clock may be wrong")
        return pair

    def _new_order(self, request: bytes) -> messages.OrderResource:
        uri = self._store.account(self._options.directory_url)
        if uri is not None:
            self._network.account = _account(uri)
            try:
                return self._client.new_order(request)
            except messages.Error as error:
                if error.code != "accountDoesNotExist":
                    raise
        self._register()
        return self._client.new_order(request)

    def _register(self) -> None:
        self._network.account = None
        options, binding = self._options, None
        if options.eab_kid is not None and options.eab_key is not None:
            binding = messages.ExternalAccountBinding.from_data(
                self._account_key.public_key(), options.eab_kid, options.eab_key, self._client.directory
            )
        contact = messages.NewRegistration.from_data(
            email=options.email, terms_of_service_agreed=True, external_account_binding=binding
        )
        try:
            uri = str(self._client.new_account(contact).uri)
        except errors.ConflictError as error:  # the key has an account already
            uri = str(error.location)
        self._network.account = _account(uri)
        self._store.keep_account(options.directory_url, uri)

    def _proof(self, authorization: messages.AuthorizationResource, kinds: tuple[str, ...]) -> Proof:
        offered = {found.chall.to_partial_json().get("type"): found for found in authorization.body.challenges}
        kind = next((kind for kind in kinds if kind in offered), None)
        if kind is None:
            raise OrderFailed(_clean(f"the CA offers {', '.join(map(str, offered))}, and not {' or '.join(kinds)}"))
        token = offered[kind].chall.to_partial_json()["token"]
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise OrderFailed("the CA's challenge has a token that is not base64url", outage=True)
        thumbprint = b64encode(self._account_key.thumbprint(hash_function=hashes.SHA256)).decode()
        host = self._host.removeprefix("*.")
        return Proof(kind, host, token, f"{token}.{thumbprint}", offered[kind].uri, authorization.uri)

    def _post(self, url: str, body: Any = None) -> requests.Response:
        return self._network.post(url, body, new_nonce_url=self._client.directory["newNonce"])

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn whatever a library raises into OrderFailed: a server can make it raise anything."""
        try:
            yield
        except OrderFailed:
            raise
        except messages.Error as error:
            code = str(error.typ).rpartition(":")[2]
            outage = code in _OUTAGES or self._network.status >= 500
            raise OrderFailed(_clean(str(error)), outage, self.asked_delay()) from None
        except requests.RequestException as error:
            raise OrderFailed(_clean(f"the ACME server cannot be reached: {error}"), outage=True) from None
        except errors.ClientError as error:
            delay = self.asked_delay()
            raise OrderFailed(_clean(f"the ACME server answers with an error: {error}"), True, delay) from None
        except OSError as error:
            raise OrderFailed(_clean(f"the account cannot be read or kept: {error}"), outage=True) from None
        except Exception as error:
            reason = f"the ACME server's answer makes no sense: {type(error).__name__}: {error}"
            raise OrderFailed(_clean(reason), outage=True) from None


def _account(uri: str) -> messages.RegistrationResource:
    return messages.RegistrationResource(body=messages.Registration(), uri=uri)


def _complaints(body: messages.Authorization) -> str:
    found = [str(challenge.error) for challenge in body.challenges if challenge.error is not None]
    return "; ".join(found) or f"it is {body.status.name}"


def _clean(text: str) -> str:
    shown = "".join(character if character.isprintable() else " " for character in text[:MAX_REASON])
    return shown + "…" if len(text) > MAX_REASON else shown
