"""Many asyncssh clients in one process, each with its own ed25519 key.

  sshclients.py SSH_PORT COUNT CONCURRENCY TUNNEL ORIGIN_PORT

Prints one JSON line when all are connected, then holds them until stdin closes.
"""

import asyncio
import json
import sys
import time

import asyncssh
import uvloop

ssh_port, count, conc, tunnel, origin = (
    int(sys.argv[1]),
    int(sys.argv[2]),
    int(sys.argv[3]),
    sys.argv[4],
    int(sys.argv[5]),
)


async def main():
    keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(count)]
    sem = asyncio.Semaphore(conc)
    times, errors, conns = [], [], []

    async def one(key):
        async with sem:
            t = time.perf_counter()
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
            conns.append(c)
            times.append(time.perf_counter() - t)

    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    t0 = time.perf_counter()
    await asyncio.gather(*(one(k) for k in keys))
    took = time.perf_counter() - t0
    times.sort()
    n = len(times)
    print(
        json.dumps(
            {
                "connected": n,
                "errors": len(errors),
                "first_error": errors[0] if errors else None,
                "seconds": took,
                "rate": n / took,
                "p50_ms": times[n // 2] * 1e3 if n else None,
                "p99_ms": times[int(n * 0.99)] * 1e3 if n else None,
            }
        ),
        flush=True,
    )
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    alive = sum(not c.is_closed() for c in conns) if conns and hasattr(conns[0], "is_closed") else n
    print(json.dumps({"alive": alive}), flush=True)
    for c in conns:
        c.abort()


uvloop.run(main())
