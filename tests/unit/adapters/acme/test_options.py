"""What the ACME side can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunnel_server.adapters.acme.options import AcmeOptions
from tunnel_server.domain.errors import InvalidSetting

URL = "https://ca.example.com/directory"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"directory_url": "http://ca.example.com/directory"}, "http://ca.example.com/directory"),
        ({"directory_url": "https://"}, "https://"),
        ({"directory_url": "https://[::1/"}, "https://[::1/"),
        ({"directory_url": "https://ca.example.com:99999/"}, "99999"),
        ({"email": "nobody"}, "nobody"),
        ({"email": "a@b.de?cc=c@d.de"}, "cc=c"),
        ({"email": "a@b.de,c@d.de"}, "c@d.de"),
        ({"eab_kid": "k"}, "key"),
        ({"eab_key": "aGVsbG8"}, "key id"),
        ({"eab_kid": "k", "eab_key": "no base64!"}, "base64url"),
        ({"eab_kid": "k", "eab_key": ""}, "base64url"),
        ({"challenges": ("http-02",)}, "http-02"),
        ({"challenges": ()}, "http-01"),
        ({"on_demand": True, "challenges": ("dns-01",)}, "on demand"),
        ({"hosts": ("good.de", "a_b.de")}, "a_b.de"),
        ({"hosts": ("*.example.de",), "challenges": ("http-01",)}, "*.example.de"),
        ({"hosts": ("a.test",)}, "a.test"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidSetting) as error:
        AcmeOptions(**({"directory_url": URL, "folder": Path("acme")} | wrong))

    assert named in str(error.value)


def test_the_secret_is_not_shown() -> None:
    options = AcmeOptions(URL, Path("acme"), eab_kid="k", eab_key="aGVsbG8")

    assert "aGVsbG8" not in repr(options)


def test_a_private_ca_signs_private_names() -> None:
    assert AcmeOptions(URL, Path("acme"), hosts=("a.test", "intranet"), private_ca=True).hosts == ("a.test", "intranet")
