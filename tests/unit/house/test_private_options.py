from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunnel_server.house.private_tunnels.options import (
    MAX_SECRETS,
    Options,
    cookie_secrets,
    declared,
    issuer,
    public_key,
    service_url,
)


def values(**given: Any) -> dict[str, Any]:
    return {setting.name: setting.default for setting in declared()} | given


def test_without_settings_there_is_a_secret_of_this_start_and_no_login_service(tmp_path: Path) -> None:
    first, second = (Options.of(values(), tmp_path / "none") for _ in range(2))

    assert first.secrets != second.secrets and len(first.secrets[0]) >= 32
    assert first.service.key is None and first.service.url == "" and first.service.origin == ""


def test_secrets_are_separated_by_spaces() -> None:
    assert cookie_secrets(" new  old\tolder new") == ("new", "old", "older")


def test_too_many_secrets_are_refused() -> None:
    with pytest.raises(ValueError, match="more than"):
        cookie_secrets(" ".join(map(str, range(MAX_SECRETS + 1))))


def test_the_key_may_be_in_the_file_of_the_reference_server(tmp_path: Path, owner: Any) -> None:
    path = tmp_path / "saas.key.pub"
    path.write_text(owner.public_pem)

    options = Options.of(values(), path)

    assert options.service.key is not None and "EdDSA" in options.service.key.algorithms


def test_the_setting_goes_before_the_file(tmp_path: Path, owner: Any) -> None:
    path = tmp_path / "saas.key.pub"
    path.write_text("not read")

    options = Options.of(values(saas_public_key=owner.public_pem), path)

    assert options.service.key is not None


def test_a_file_that_holds_no_key_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "saas.key.pub"
    path.write_text("nonsense")

    with pytest.raises(ValueError, match="PEM"):
        Options.of(values(), path)


def test_a_file_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        Options.of(values(), tmp_path)


def test_the_ends_of_lines_may_be_written_out(owner: Any) -> None:
    flat = owner.public_pem.replace("\n", "\\n")

    assert public_key(flat) == owner.public_pem.strip()


@pytest.mark.parametrize(
    ("given", "url", "origin"),
    [
        ("https://app.example.com/", "https://app.example.com", "https://app.example.com"),
        (" http://app:8080/x/ ", "http://app:8080/x", "http://app:8080"),
        ("", "", ""),
    ],
)
def test_the_login_service_is_at_an_url(given: str, url: str, origin: str, tmp_path: Path) -> None:
    assert service_url(given) == url
    assert Options.of(values(saas_base_url=url), tmp_path / "none").service.origin == origin


@pytest.mark.parametrize(
    "url",
    [
        "app.example.com", "ftp://a", "https://", "https://a?b", "https://a#b", "https://u@a", "https://a:0", "https://a:x",
        "https://a:99999", "https://[x", "https://a b", "https://a\nb", "https://ä", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_what_is_no_url_of_a_service_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"is not|has control"):
        service_url(url)


@pytest.mark.parametrize("value", ["", " ", "preevy://x", "a\nb"])
def test_an_issuer_cannot_be_taken_for_a_client(value: str) -> None:
    with pytest.raises(ValueError, match=r"is empty|begins|control"):
        issuer(value)


def test_what_is_secret_is_marked_so() -> None:
    secret = {setting.name for setting in declared() if setting.secret}

    assert secret == {"cookie_secrets", "saas_public_key"}
