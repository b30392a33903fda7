"""What is asked of this machine itself: ports, names, threads."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from pathlib import Path

import pytest
from rig import until

from tunnel_server.adapters.checkup.aside import aside
from tunnel_server.adapters.checkup.binding import could_listen
from tunnel_server.adapters.checkup.resolver import is_here, own_addresses, resolve
from tunnel_server.domain.diagnosis.ports import Holder


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_a_port_is_free_or_taken(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        taken = could_listen(host, port)

    assert taken[0] is Holder.TAKEN
    assert "in use" in taken[1]
    assert could_listen(host, port) == (Holder.FREE, "")
    with socket.create_server(("127.0.0.1", port)):
        pass  # nothing was kept


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    assert could_listen("192.0.2.1", 4000)[0] is Holder.NOT_HERE
    assert not is_here("192.0.2.1")
    assert is_here("127.0.0.1")
    assert all(is_here(address) for address in own_addresses())


async def test_names_resolve_or_say_why_not() -> None:
    assert "127.0.0.1" in (await resolve("localhost", 5)).addresses
    assert (await resolve("a..b", 5)).problem
    assert (await resolve("x" * 70 + ".test", 5)).problem


async def test_a_thread_that_hangs_holds_up_nobody() -> None:
    never, others = threading.Event(), set(threading.enumerate())

    with pytest.raises(TimeoutError):
        await aside(never.wait, 0.05)

    never.set()
    await until(lambda: set(threading.enumerate()) <= others)


async def test_what_a_thread_raises_or_returns_is_handed_on() -> None:
    def fail() -> None:
        raise LookupError("x")

    with pytest.raises(LookupError):
        await aside(fail, 5)
    assert await aside(lambda: 7, 5) == 7


async def test_a_process_ends_though_a_thread_of_it_hangs(tmp_path: Path) -> None:
    script = tmp_path / "hang.py"
    script.write_text(
        "import asyncio, threading\n"
        "from tunnel_server.adapters.checkup.aside import aside\n"
        "try: asyncio.run(aside(threading.Event().wait, 0.05))\n"
        "except TimeoutError: print('given up')\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, str(script), stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(10):
        out, _ = await process.communicate()

    assert (out, process.returncode) == (b"given up\n", 0)
