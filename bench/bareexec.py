"""bareexec.py PORT HOST_KEY: a bare asyncssh server that answers every exec; the floor of a first request."""

import asyncio
import sys

import asyncssh

try:
    import uvloop
except ImportError:
    uvloop = asyncio


class Anybody(asyncssh.SSHServer):
    def begin_auth(self, username):
        return True

    def public_key_auth_supported(self):
        return True

    def validate_public_key(self, username, key):
        return True


def answer(process):
    process.stdout.write("ok\r\n")
    process.exit(0)


async def main(port, host_key):
    async with asyncssh.listen(
        "127.0.0.1",
        port,
        server_factory=Anybody,
        process_factory=answer,
        server_host_keys=[host_key],
        compression_algs=None,
        gss_host=None,
    ) as server:
        await server.wait_closed()


uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
