"""A private network for each test; the images are built once, both at a time."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncssh
import pytest
from containers import LABEL, NAME, build, docker
from peers import Peer, PrivateNetwork, Visitor

TOOLS = "openssh-client curl openssl"


@pytest.fixture(scope="session")
def peer_image(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the server's peers run in."""
    folder: Path = tmp_path_factory.mktemp("peer")
    install = f"apt-get update -qq && apt-get install -qq --no-install-recommends {TOOLS} >/dev/null"
    (folder / "Dockerfile").write_text(f"FROM {base_image}\nRUN {install}\n")
    return build(folder)


@pytest.fixture
def network(image: str, peer_image: str) -> Iterator[PrivateNetwork]:
    """A private network with nobody in it."""
    with ExitStack() as stack:
        yield PrivateNetwork(image, peer_image, stack)


@pytest.fixture
def app(network: PrivateNetwork) -> Peer:
    """The app that clients of the network publish."""
    return network.app()


@pytest.fixture
def visitor(network: PrivateNetwork) -> Visitor:
    """A visitor in the network."""
    return network.visitor()


@pytest.fixture
def key() -> bytes:
    """A client's key."""
    return asyncssh.generate_private_key("ssh-ed25519").export_private_key()


@pytest.fixture
def volume() -> str:
    """An empty volume with a name: one without is the container's own."""
    return docker("volume", "create", "--label", LABEL, f"{NAME}-{uuid.uuid4().hex}")
