"""Judgements that need no real surroundings; those that do are in tests/integration/test_doctor.py."""

from __future__ import annotations

import pytest

from tunnel_server.domain.diagnosis import acme, certificate, chain, clock, dns, host_key, plugins, ports, reach
from tunnel_server.domain.diagnosis.acme import Proof
from tunnel_server.domain.diagnosis.certificate import Held, Needs
from tunnel_server.domain.diagnosis.finding import Finding, Verdict, failed, healthy, ok, skipped, summary, warning
from tunnel_server.domain.diagnosis.host_key import HostKey
from tunnel_server.domain.diagnosis.ports import Holder, Listening
from tunnel_server.domain.diagnosis.reach import Goal, Way
from tunnel_server.domain.diagnosis.trouble import Kind, Trouble

DAY = 86400.0


def test_what_is_wrong_has_a_fix() -> None:
    for verdict in (Verdict.WARNING, Verdict.FAILED):
        with pytest.raises(ValueError, match="no fix"):
            Finding(verdict, "x")


def test_a_server_is_healthy_unless_something_failed() -> None:
    mixed = [ok("a"), warning("b", "c"), skipped("d")]

    assert healthy(mixed)
    assert not healthy([*mixed, failed("e", "f")])
    assert summary([*mixed, ok("g")]) == "2 ok, 1 warning, 1 skipped"


# names


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "192.0.2.1", "[::1]"])
def test_some_hosts_have_no_names_below_them(host: str) -> None:
    assert dns.nameless(host)
    assert not dns.nameless("tunnels.test")


def test_a_base_host_that_is_an_address_is_warned_of() -> None:
    assert "/proxy/<label>/" in dns.base(dns.Resolved("192.0.2.1", ("192.0.2.1",))).fix


def test_a_resolver_that_fails_is_told_from_a_name_that_is_missing() -> None:
    missing = dns.base(dns.Resolved("a.test", problem="does not exist", missing=True))
    broken = dns.base(dns.Resolved("a.test", problem="the resolver fails"))

    assert "make an A record" in missing.fix
    assert "/etc/resolv.conf" in broken.fix


def test_the_order_of_addresses_does_not_matter() -> None:
    base, star = (
        dns.Resolved("a.test", ("192.0.2.1", "192.0.2.2")),
        dns.Resolved("x.a.test", ("192.0.2.2", "192.0.2.1")),
    )

    assert dns.wildcard(base, star).verdict is Verdict.OK
    assert dns.reserved(star, dns.Resolved("auth.a.test", base.addresses)).verdict is Verdict.OK


def test_of_many_addresses_some_are_told() -> None:
    assert dns.told(str(number) for number in range(6)) == "0, 1, 2, 3 and 2 more"


# ports


@pytest.mark.parametrize(
    ("holder", "verdict", "remedy"),
    [
        (Holder.OURS, Verdict.OK, ""),
        (Holder.FREE, Verdict.OK, ""),
        (Holder.UNKNOWN, Verdict.SKIPPED, ""),
        (Holder.OTHER, Verdict.FAILED, "ss -ltnp"),
        (Holder.TAKEN, Verdict.FAILED, "set PORT to"),
        (Holder.FORBIDDEN, Verdict.FAILED, "CAP_NET_BIND_SERVICE"),
        (Holder.NOT_HERE, Verdict.FAILED, "TUNNEL_SERVER_LISTEN_HOST"),
    ],
)
def test_a_port_is_judged_by_who_has_it(holder: Holder, verdict: Verdict, remedy: str) -> None:
    found = ports.judge(Listening("PORT", "", 80, holder, "detail"), runs=False)

    assert found.verdict is verdict
    assert remedy in found.fix


@pytest.mark.parametrize(
    ("holder", "verdict"),
    [
        (Holder.OURS, Verdict.OK),
        (Holder.UNKNOWN, Verdict.SKIPPED),
        (Holder.FREE, Verdict.WARNING),
        (Holder.FORBIDDEN, Verdict.WARNING),
        (Holder.NOT_HERE, Verdict.WARNING),
        (Holder.OTHER, Verdict.FAILED),
        (Holder.TAKEN, Verdict.FAILED),
    ],
)
def test_a_port_that_a_server_which_runs_does_not_have_is_not_its_own(holder: Holder, verdict: Verdict) -> None:
    port = Listening("PORT", "", 80, holder, "detail")

    found = ports.judge(port, runs=True)

    assert found.verdict is verdict
    assert ("set PORT to the port of that one" in found.fix) == (verdict in (Verdict.WARNING, Verdict.FAILED))
    assert ports.metrics(port, True, ["10.0.0.1"]) == found


@pytest.mark.parametrize(
    ("host", "addresses", "verdict"),
    [
        ("", ["10.0.0.1"], Verdict.OK),
        ("", ["10.0.0.1", "8.8.8.8"], Verdict.WARNING),
        ("::", ["2001:4860::1"], Verdict.WARNING),
        ("8.8.8.8", ["8.8.8.8"], Verdict.WARNING),
        ("127.0.0.1", ["8.8.8.8"], Verdict.OK),
    ],
)
def test_metrics_are_not_for_all_the_world(host: str, addresses: list[str], verdict: Verdict) -> None:
    assert ports.metrics(Listening("METRICS_PORT", host, 8888, Holder.OURS), True, addresses).verdict is verdict


# the host key

KEY = HostKey("/data/key", "SHA256:a")


@pytest.mark.parametrize(
    ("key", "served", "verdict", "remedy"),
    [
        (KEY, "SHA256:a", Verdict.OK, ""),
        (KEY, "", Verdict.OK, ""),
        (KEY, "SHA256:b", Verdict.FAILED, "put the old one back"),
        (HostKey("/data/key"), "", Verdict.OK, ""),
        (HostKey("/data/key"), "SHA256:b", Verdict.FAILED, "SSH_HOST_KEY_PATH"),
        (HostKey("/data/key", writable=False), "", Verdict.FAILED, "SSH_HOST_KEY"),
        (HostKey("/data/key", problem="is none"), "", Verdict.FAILED, "ssh-keygen"),
        (HostKey("/data/key", "SHA256:a", open_to_all=True), "", Verdict.WARNING, "chmod 600 /data/key"),
        (HostKey("/data/key", "SHA256:a", lost_with="this pod"), "SHA256:a", Verdict.WARNING, "docker run -v"),
    ],
)  # fmt: skip
def test_the_host_key_has_to_be_there_be_shown_and_stay(
    key: HostKey, served: str, verdict: Verdict, remedy: str
) -> None:
    found = host_key.judge(key, served)

    assert found.verdict is verdict
    assert remedy in found.fix


# the clock


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (clock.Clock(True), Verdict.OK),
        (clock.Clock(True, 61, "x"), Verdict.FAILED),
        (clock.Clock(False, 4.9, "x"), Verdict.OK),
        (clock.Clock(False, -5.1, "x"), Verdict.WARNING),
        (clock.Clock(False, -60, "x"), Verdict.FAILED),
        (clock.Clock(False, problem="silent"), Verdict.WARNING),
        (clock.Clock(None, problem="silent"), Verdict.SKIPPED),
    ],
)
def test_the_clock_is_judged_by_its_offset_else_by_the_kernel(found: clock.Clock, verdict: Verdict) -> None:
    assert clock.judge(found).verdict is verdict


def test_an_offset_is_told_with_its_direction() -> None:
    assert clock.judge(clock.Clock(None, 7.25, "x")).found == "7.2 s behind x"
    assert clock.judge(clock.Clock(None, -2 * DAY, "x")).found.startswith("2.0 days ahead of x")


# certificates

BOTH = ("a.test", "*.a.test")
HTTPS = Needs("a.test", https=True)


@pytest.mark.parametrize(
    ("held", "needs", "verdict", "remedy"),
    [
        ([Held("f", BOTH, 0, 90 * DAY)], HTTPS, Verdict.OK, ""),
        ([Held("f", BOTH, 0, 13 * DAY)], HTTPS, Verdict.WARNING, "renew"),
        ([Held("f", BOTH, 0, 0.5 * DAY)], HTTPS, Verdict.FAILED, "renew"),
        ([Held("f", BOTH, 2 * DAY, 90 * DAY)], HTTPS, Verdict.FAILED, "clock"),
        ([Held("f", ("a.test",), 0, 90 * DAY)], HTTPS, Verdict.FAILED, "*.a.test"),
        ([Held("f", ("a.test",), 0, 90 * DAY)], Needs("a.test", https=False), Verdict.WARNING, "*.a.test"),
        ([Held("f", ("*.a.test",), 0, 90 * DAY), Held("g", ("a.test",), 0, 90 * DAY)], HTTPS, Verdict.OK, ""),
        ([], HTTPS, Verdict.SKIPPED, ""),
        ([], Needs("a.test", https=False), Verdict.WARNING, "BASE_URL=https"),
        ([], Needs("a.test", True, BOTH), Verdict.OK, ""),
        ([], Needs("a.test", True, ("a.test",)), Verdict.FAILED, "answer-dns-challenges"),
        ([], Needs("a.test", True, ("a.test",), on_demand=True), Verdict.OK, ""),
        ([Held("f", (), 0, 90 * DAY)], Needs("192.0.2.1", True), Verdict.OK, ""),
    ],
)
def test_certificates_have_to_be_for_base_and_labels_and_in_their_time(
    held: list[Held], needs: Needs, verdict: Verdict, remedy: str
) -> None:
    found = certificate.judge(held, "", needs, DAY)

    assert found.verdict is verdict
    assert remedy in found.fix


def test_a_certificate_may_last_longer_than_the_calendar() -> None:
    assert certificate.judge([Held("f", BOTH, 0, 1e15)], "", HTTPS, DAY).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(10, "renew"), (9, "clock"), (18, "public CA"), (19, "public CA"), (20, "fullchain"), (21, "fullchain"),
     (62, "covers a.test"), (0, "certificate.refused")],
)  # fmt: skip
def test_each_way_not_to_be_trusted_has_a_fix_of_its_own(code: int, remedy: str) -> None:
    found = chain.judge([("b.test", None), ("a.test", Trouble(Kind.UNTRUSTED, "bad", code))])

    assert found.verdict is Verdict.FAILED
    assert remedy in found.fix


def test_a_ca_needs_one_way_to_each_host() -> None:
    refused = (("http-01", "connection refused"), ("tls-alpn-01", ""))

    assert acme.judge("ca", "", [Proof("a.test", refused)], dns=False).verdict is Verdict.OK
    assert "by dns-01" in acme.judge("ca", "", [Proof("*.a.test", ())], dns=True).found
    assert acme.judge("ca", "", [Proof("a.test", refused[:1])], dns=False).verdict is Verdict.FAILED


# the ways here

GOAL = Goal("GET x", "curl x", "port 80 has to lead to PORT", "a.test")
GOOD = Way("192.0.2.1", here=False, ours=True)


@pytest.mark.parametrize(
    ("ways", "verdict", "remedy"),
    [
        ([GOOD], Verdict.OK, ""),
        ([GOOD, Way("::1", False, trouble=Trouble(Kind.UNREACHABLE, "no way"))], Verdict.WARNING, "curl x"),
        ([Way("::1", False, trouble=Trouble(Kind.UNREACHABLE, "no way"))], Verdict.FAILED, "port 80"),
        ([GOOD, Way("::1", False, trouble=Trouble(Kind.REFUSED, "refused"))], Verdict.FAILED, "NAT"),
        ([Way("::1", True, trouble=Trouble(Kind.SILENT, "silent"))], Verdict.FAILED, "this machine's own"),
        ([Way("::1", True, answer="somebody else")], Verdict.FAILED, "no other"),
        ([Way("::1", True, trouble=Trouble(Kind.UNTRUSTED, "old", 10))], Verdict.FAILED, "renew"),
    ],
)
def test_every_address_has_to_lead_here(ways: list[Way], verdict: Verdict, remedy: str) -> None:
    found = reach.judge(GOAL, ways)

    assert found.verdict is verdict
    assert remedy in found.fix


def test_ssh_may_be_published_on_another_port_but_not_with_another_key() -> None:
    closed, other = Way("::1", False, trouble=Trouble(Kind.REFUSED, "refused")), Way("::1", False, answer="another key")

    assert reach.by_other_port(GOAL, [closed]).verdict is Verdict.WARNING
    assert reach.by_other_port(GOAL, [other]).verdict is Verdict.FAILED
    assert reach.by_other_port(GOAL, [GOOD]).verdict is Verdict.OK


# plugins


def test_plugins_have_to_load_and_let_somebody_in() -> None:
    assert plugins.judge(["a"], "", True).verdict is Verdict.OK
    assert plugins.judge(["accept-any-key"], "", True, guests=False).found.endswith("any key may log in")
    assert plugins.judge(["accept-any-key", "a"], "", True).found == "accept-any-key, a"
    assert "accept-any-key" in plugins.judge(["a"], "", False).fix
    assert "TUNNEL_SERVER_PLUGINS" in plugins.judge([], "plugin a cannot be loaded", False).fix
    assert plugins.sessions(1).verdict is Verdict.OK
