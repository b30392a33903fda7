from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from tunnel_server.app import logs


@pytest.mark.parametrize("form", ["json", "console"])
def test_what_does_not_print_is_escaped_so_one_event_is_one_line(form: str) -> None:
    out = io.StringIO()
    logs.configure(form, False, out)

    structlog.get_logger().info("tunnel.refused", request="/a\x1b[2J\r\nforged \u202e")

    text = out.getvalue()
    assert text.count("\n") == 1
    assert "\x1b[2J" not in text
    assert "\\x1b[2J\\r\\nforged \\u202e" in text.replace("\\\\", "\\")


def test_long_values_are_cut() -> None:
    out = io.StringIO()
    logs.configure("json", False, out)

    structlog.get_logger().info("x", request="a" * 10_000)

    assert len(json.loads(out.getvalue())["request"]) == logs.MAX_VALUE + 1


def test_other_libraries_speak_the_same_format() -> None:
    out = io.StringIO()
    logs.configure("json", False, out)

    logging.getLogger("asyncssh").warning("odd\npeer")

    entry = json.loads(out.getvalue())
    assert (entry["event"], entry["level"]) == ("odd\\npeer", "warning")


def test_debug_logs_more() -> None:
    quiet, chatty = io.StringIO(), io.StringIO()
    for debug, out in ((False, quiet), (True, chatty)):
        logs.configure("json", debug, out)
        structlog.get_logger().debug("client.rejected")

    assert (quiet.getvalue(), "client.rejected" in chatty.getvalue()) == ("", True)
