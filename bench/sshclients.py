"""Many asyncssh clients in one process, each with its own ed25519 key and a tunnel.

  sshclients.py SSH_PORT TUNNEL ORIGIN_PORT

Answers each line of its input with a line of JSON, and holds the clients until its input ends:

  prepare COUNT      make the keys of so many more clients
  connect AT_ONCE    connect them, so many at once; tells how long each took, and the errors
  clients COUNT      what the server calls the clients of a sample, evenly spread
  alive              how many are still connected
"""

import asyncio
import json
import sys
import time

import asyncssh
import uvloop

ssh_port, tunnel, origin = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
keys: list[asyncssh.SSHKey] = []
connections: list[asyncssh.SSHClientConnection] = []


async def prepare(count):
    keys.extend(asyncssh.generate_private_key("ssh-ed25519") for _ in range(count))
    return len(keys)


async def connect(at_once):
    turn = asyncio.Semaphore(at_once)
    times, errors = [], []

    async def one(key):
        async with turn:
            begun = time.perf_counter()
            try:
                c = await asyncssh.connect(
                    "127.0.0.1",
                    ssh_port,
                    username="user",
                    client_keys=[key],
                    known_hosts=None,
                    config=None,
                    agent_path=None,
                    login_timeout=60,
                    connect_timeout=60,
                )
                await c.forward_remote_path_to_port(tunnel, "127.0.0.1", origin)
            except Exception as e:  # counted, not fatal
                errors.append(repr(e))
                return
            connections.append(c)
            times.append((time.perf_counter() - begun) * 1e3)

    begun = time.perf_counter()
    await asyncio.gather(*(one(key) for key in keys))
    keys.clear()
    return {"times_ms": times, "errors": errors, "seconds": time.perf_counter() - begun}


async def client_id(connection):
    """The session goes on as long as the connection has a tunnel, so it is closed after its first line."""
    async with connection.create_process("hello") as session:
        line = await asyncio.wait_for(session.stdout.readline(), 30)
        session.close()
    return json.loads(line)["clientId"]


async def clients(count):
    step = max(1, len(connections) // count) if count else 1
    return [await client_id(c) for c in connections[::step][:count]]


async def alive():
    return sum(not c.is_closed() for c in connections)


COMMANDS = {"prepare": prepare, "connect": connect, "clients": clients, "alive": alive}


async def main():
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command, *numbers = line.split()
        print(json.dumps(await COMMANDS[command](*map(int, numbers))), flush=True)
    for c in connections:
        c.abort()


uvloop.run(main())
