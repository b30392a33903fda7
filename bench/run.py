"""Runs the benchmark of this checkout's server and prints a report.

    python bench/run.py [options of bench.py]

Without options: all scenarios, with the floors direct, sshd and nginx+sshd. Needs wrk, curl, nginx, an OpenSSH
client and, for the floors, sshd (which runs as root).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="tunnelbench-run.") as folder:
        key, result = Path(folder) / "key", Path(folder) / "result.json"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        server = f"{sys.executable} -m tunnel_server run"
        settings = {
            "BASE_URL": "http://local.test:3000",
            "TUNNEL_SERVER_SSH_HOST_KEY_PATH": f"{folder}/host_key",
            "TUNNEL_SERVER_LISTEN_HOST": "127.0.0.1",
        }
        command = [sys.executable, str(HERE / "bench.py"), "--name", "ours", "--server-cmd", server]
        for name, value in settings.items():
            command += ["--env", f"{name}={value}"]
        command += ["--key", str(key), "--out", str(result)]
        command += sys.argv[1:] or ["--floor", "direct,sshd,nginx+sshd"]
        status = subprocess.run(command, stdout=subprocess.DEVNULL, env=os.environ).returncode
        if status == 0:
            subprocess.run([sys.executable, str(HERE / "report.py"), str(result)], check=True)
        return status


if __name__ == "__main__":
    sys.exit(main())
