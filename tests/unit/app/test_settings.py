from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_server.app import plugins
from tunnel_server.app import settings as known
from tunnel_server.app.discovery import HOUSE
from tunnel_server.app.setting_fields import About, as_about
from tunnel_server.app.settings import load
from tunnel_server.domain.errors import InvalidSetting

ACME = {"TUNNEL_SERVER_ACME": "letsencrypt", "TUNNEL_SERVER_ACME_HOSTS": "tunnels.de"}
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "settings.md"


def test_with_nothing_set_it_serves_localhost() -> None:
    loaded = load({}, {}, None)

    assert loaded.settings.base_url == "http://localhost:3000"
    assert (loaded.settings.port, loaded.settings.ssh_port, loaded.settings.metrics_port) == (3000, 2222, 8888)
    assert set(loaded.origins.values()) == {"default"}


def test_a_flag_goes_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        'port = 1001\nssh_port = 1002\nmetrics_port = 1003\nhead_timeout = "2m"\ntrusted_proxies = ["10.0.0.0/8"]\n'
    )

    loaded = load({"port": "3001"}, {"PORT": "2001", "TUNNEL_SERVER_SSH_PORT": "2002"}, file)

    settings = loaded.settings
    assert (settings.port, settings.ssh_port, settings.metrics_port) == (3001, 2002, 1003)
    assert settings.head_timeout == 120.0
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8"]
    assert loaded.origins["port"] == "flag --port"
    assert loaded.origins["ssh_port"] == "environment TUNNEL_SERVER_SSH_PORT"
    assert loaded.origins["metrics_port"] == f"file {file}"
    assert settings.base_url == "http://localhost:3001"


@pytest.mark.parametrize("name", [name for name in known.names() if known.about(name).env])
def test_the_names_of_the_reference_server_work_with_and_without_prefix(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = known.about(name)
    assert about.env is not None

    monkeypatch.setattr(Path, "exists", lambda path: True)
    needs = {"tls_cert": {"TLS_KEY": "key"}, "tls_key": {"TLS_CERT": "certificate"}}.get(name, {})

    for variable in (about.env, "TUNNEL_SERVER_" + about.env):
        assert load({}, {variable: about.example, **needs}, None).origins[name] == f"environment {variable}"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"PORT": "http"}, "port: 'http' (environment PORT) is not a whole number"),
        ({"PORT": "70000"}, "is not from 0 to 65535"),
        ({"PORT": "1", "TUNNEL_SERVER_PORT": "2"}, "differ; set one of them"),
        ({"TUNNEL_SERVER_PROT": "1"}, "did you mean TUNNEL_SERVER_PORT?"),
        ({"BASE_URL": "http://a/b"}, "for example: https://tunnels.example.com"),
        ({"TUNNEL_SERVER_HEAD_TIMEOUT": "soon"}, "is not a duration"),
        ({"TUNNEL_SERVER_HEAD_SIZE": "1TiB"}, "is not a size"),
        ({"TUNNEL_SERVER_ACCESS_LOG": "perhaps"}, "is neither true nor false"),
        ({"TUNNEL_SERVER_TRUSTED_PROXIES": "10.0.0.1/8"}, "which is not a network"),
        ({"TUNNEL_SERVER_LOG_FORMAT": "xml"}, "is not one of auto, json, console"),
        (
            {"TUNNEL_SERVER_SSH_CIPHERS": "aes128-ctr,3des-cbc"},
            "has '3des-cbc', which is not one of aes128-gcm@openssh.com",
        ),
        ({"TUNNEL_SERVER_SSH_SOCKET_BUFFER": "1KiB"}, "is not from 4096 to"),
        ({"TUNNEL_SERVER_CHANNEL_MEMORY": "0"}, "is not from"),
        ({"SSH_HOSTNAMES": "ssh.example.com, a b!"}, "has 'b!', which is not a host name"),
        ({"TLS_CERT": "-----BEGIN CERTIFICATE-----\0"}, "has control characters"),
        ({"TLS_CERT": "x"}, "tls_cert, tls_key: one is set without the other"),
        ({"TUNNEL_SERVER_FORCE_HTTPS": "true"}, "there is no certificate, and base_url is not https"),
        ({"TUNNEL_SERVER_DEV_TLS": "true", "TLS_CERT_FILE": "a"}, "dev_tls: there is a certificate already"),
        ({"TUNNEL_SERVER_HSTS": "max-age=1\r\nX: y"}, "is no value of Strict-Transport-Security"),
        ({"TUNNEL_SERVER_ACME": "http://ca.example"}, "is neither letsencrypt, letsencrypt-staging nor an https URL"),
        ({"TUNNEL_SERVER_ACME": "letsencrypt"}, "for which hosts? set acme_hosts, or acme_on_demand = true"),
        ({"TLS_CERT_FILE": "nowhere.pem"}, "tls_cert_file: there is no file 'nowhere.pem'"),
        ({"TLS_KEY_FILE": "nowhere.pem"}, "tls_cert_file: there is no file 'tls/cert.pem'"),
        ({"TLS_CERT": "x", "TLS_KEY_FILE": "nowhere.pem"}, "tls_key_file: there is no file 'nowhere.pem'"),
        ({"TUNNEL_SERVER_TLS_CERT_DIR": "/nowhere"}, "tls_cert_dir: there is no folder '/nowhere'"),
        ({"TUNNEL_SERVER_HSTS": "max-age=1"}, "hsts: there is no certificate, so no TLS for it"),
        ({"TUNNEL_SERVER_TLS_KEY_LOG": "keys"}, "tls_key_log: there is no certificate, so no TLS for it"),
        ({"TUNNEL_SERVER_MAX_HANDSHAKES": "0"}, "is not from 1 to 1000000"),
        (ACME | {"TUNNEL_SERVER_ACME_EAB_KID": "1"}, "acme_eab_kid, acme_eab_key: one is set without the other"),
        (ACME | {"TUNNEL_SERVER_ACME_LABELS": "1"}, "certificates for labels are got on demand only"),
        (ACME | {"TUNNEL_SERVER_ACME_HOSTS": "a.internal"}, ".internal is reserved, no public CA signs it"),
        (ACME | {"TUNNEL_SERVER_ACME_CA_FILE": "/nowhere.pem"}, "acme_ca_file: there is no file '/nowhere.pem'"),
        ({"TUNNEL_SERVER_ACME_HOSTS": "tunnels.de"}, "acme: of which CA? for example: letsencrypt"),
        ({"SSH_HOSTNAMES": "*.ssh.example.com"}, "has a wildcard, which means nothing here"),
        (
            {"TUNNEL_SERVER_FORCE_HTTPS": "true", "BASE_URL": "https://tunnels.de"},
            "force_https: there is no certificate; name the proxies that have one in trusted_proxies",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_wrong(environ: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        load({}, environ, None)

    assert said in str(refused.value)


def test_what_kubernetes_tells_of_services_is_no_setting() -> None:
    told = {
        "TUNNEL_SERVER_SERVICE_HOST": "10.0.0.7",
        "TUNNEL_SERVER_SERVICE_PORT": "2222",
        "TUNNEL_SERVER_SERVICE_PORT_SSH": "2222",
        "TUNNEL_SERVER_PORT": "tcp://10.0.0.7:2222",
        "TUNNEL_SERVER_PORT_2222_TCP": "tcp://10.0.0.7:2222",
        "TUNNEL_SERVER_PORT_2222_TCP_ADDR": "10.0.0.7",
        "METRICS_SERVICE_HOST": "10.0.0.8",
        "METRICS_SERVICE_PORT": "80",
        "METRICS_PORT": "tcp://10.0.0.8:80",
    }

    settings = load({}, told | {"SSH_PORT": "22"}, None).settings

    assert (settings.port, settings.ssh_port, settings.metrics_port) == (3000, 22, 8888)
    assert load({}, told | {"TUNNEL_SERVER_PORT": "80"}, None).settings.port == 80
    for alone in ("TUNNEL_SERVER_SERVICE_PORT", "TUNNEL_SERVER_SERVICE_HOST"):
        with pytest.raises(InvalidSetting, match=alone):
            load({}, {alone: "2222"}, None)


def test_ciphers_keep_their_order_and_a_buffer_of_nothing_is_the_systems() -> None:
    environ = {"TUNNEL_SERVER_SSH_CIPHERS": "aes256-ctr, aes128-ctr aes256-ctr", "TUNNEL_SERVER_SSH_SOCKET_BUFFER": "0"}

    settings = load({}, environ, None).settings

    assert settings.ssh_ciphers == ("aes256-ctr", "aes128-ctr")
    assert settings.ssh_socket_buffer == 0


def test_a_certificates_default_files_count_only_if_they_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert not load({}, {}, None).settings.has_certificate()

    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "cert.pem").touch()
    (tmp_path / "tls" / "key.pem").touch()
    assert load({}, {}, None).settings.certificate_files() == (Path("./tls/cert.pem"), Path("./tls/key.pem"))


def test_with_a_certificate_for_development_the_base_url_is_https() -> None:
    environ = {"TUNNEL_SERVER_DEV_TLS": "true", "TLS_PORT": "9443"}

    assert load({}, environ, None).settings.base_url == "https://localhost:9443"


def test_a_certificate_may_come_as_text_and_its_key_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "key.pem").touch()
    environ = {"TLS_CERT": "certificate", "TLS_KEY_FILE": str(tmp_path / "key.pem")}

    assert load({}, environ, None).settings.has_certificate()


def test_a_cas_short_name_stands_for_its_directory() -> None:
    environ = {"TUNNEL_SERVER_ACME": "letsencrypt", "TUNNEL_SERVER_ACME_HOSTS": "Tunnels.de."}

    settings = load({}, environ, None).settings

    assert settings.acme == "https://acme-v02.api.letsencrypt.org/directory"
    assert settings.acme_hosts == ("tunnels.de",)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(InvalidSetting) as refused:
        load({}, {"PORT": "x", "SSH_PORT": "y", "TUNNEL_SERVER_NONE": "1"}, None)

    assert len(str(refused.value).splitlines()) == 3


@pytest.mark.parametrize("text", ["port = ", "prot = 1", "port = {a = 1}", "port = 2020-01-01", "\udcff"])
def test_a_file_that_is_wrong_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(InvalidSetting):
        load({}, {}, file)
    with pytest.raises(InvalidSetting):
        load({}, {}, tmp_path / "missing.toml")


def test_a_secret_is_never_in_a_complaint() -> None:
    with pytest.raises(InvalidSetting) as refused:
        load({}, {"SSH_HOST_KEY": "s3cret\0"}, None)

    assert "s3cret" not in str(refused.value)


@given(st.sampled_from(known.names()), st.text())
def test_no_text_makes_loading_fail_otherwise(name: str, text: str) -> None:
    with contextlib.suppress(InvalidSetting):
        load({name: text}, {}, None)


def test_the_page_lists_every_setting_as_it_is() -> None:
    page = PAGE.read_text()

    missing = [line for line in rows() if line not in page]

    assert missing == [], f"regenerate the rows with tests.unit.app.test_settings.rows: {missing[0]}"


def rows() -> list[str]:
    """Return the page's line for each setting, those of the house's plugins behind the server's own."""
    settings = load({}, {}, None).settings
    own = [row(name, known.about(name), getattr(settings, name)) for name in known.names()]
    declared = plugins.load({"plugins": ",".join(HOUSE)}, {}, None).declared
    return own + [row(name, as_about(its), its.default) for name, (_, its) in declared.items()]


def row(name: str, about: About, default: object) -> str:
    """Return the page's line for a setting."""
    names = [f"`TUNNEL_SERVER_{name.upper()}`"] + ([f"`{about.env}`"] if about.env else [])
    shown = ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    default_cell = f"`{shown}`" if shown and default is not None else "none"
    return f"| `{name}` | {', '.join(names)} | {default_cell} | {about.limits or '-'} | {about.help} |"
