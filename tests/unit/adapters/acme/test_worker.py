"""The thread that waits for the ACME server, and the way to end its wait."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest
from rig import until

from tunnel_server.adapters.acme.worker import Lifeline, Worker


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "acme"]


async def test_all_work_is_done_on_one_daemon_thread_in_its_turn() -> None:
    worker = Worker()
    assert not workers()

    threads = [await worker.run(threading.current_thread) for _ in range(3)]

    assert len(set(threads)) == 1
    assert threads[0].daemon
    with pytest.raises(ZeroDivisionError):
        await worker.run(divmod, 1, 0)
    assert await worker.run(divmod, 7, 2) == (3, 1)
    worker.stop()
    await until(lambda: not workers())


async def test_what_was_cancelled_before_its_turn_is_never_done() -> None:
    worker = Worker()
    gate, done = threading.Event(), []
    first = asyncio.ensure_future(worker.run(gate.wait))
    second = asyncio.ensure_future(worker.run(done.append, 2))
    await asyncio.sleep(0)
    second.cancel()
    third = asyncio.ensure_future(worker.run(done.append, 3))
    await asyncio.sleep(0)

    gate.set()
    await asyncio.gather(first, third)

    assert done == [3]
    worker.stop()


def test_a_cut_ends_a_wait_for_a_socket() -> None:
    ours, theirs = socket.socketpair()
    lifeline = Lifeline()
    lifeline.add(ours)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(ours.recv(1)), daemon=True)
    thread.start()

    lifeline.cut()
    lifeline.cut()

    thread.join(10)
    assert got == [b""]
    ours.close()
    theirs.close()


def test_after_a_cut_no_socket_is_taken() -> None:
    ours, theirs = socket.socketpair()
    lifeline = Lifeline()
    lifeline.cut()

    with pytest.raises(ConnectionAbortedError):
        lifeline.add(ours)
    ours.close()
    theirs.close()
