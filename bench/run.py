"""Runs the benchmark of this checkout's server, prints a report and draws plots.

    python bench/run.py [options of bench.py]

Without options: all scenarios, with all floors. The result is kept in build/bench/result.json (--out FILE: elsewhere),
the plots in the folder plots beside it. Needs wrk, curl, nginx, an OpenSSH client, matplotlib for the plots, and, for
the floors, sshd (which runs as root).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from basics import new_certificate

HERE = Path(__file__).resolve().parent
ALL = ["--floor", "direct,sshd,nginx+sshd,sshd+gcm,nginx+sshd+gcm", "--reps", "5", "--side-reps", "2"]


def report(result: Path) -> None:
    subprocess.run([sys.executable, str(HERE / "report.py"), str(result)], check=True)
    if importlib.util.find_spec("matplotlib") is None:
        print("\nNo plots: they need matplotlib, which the extra `bench` installs.")
        return
    plots = result.parent / "plots"
    subprocess.run([sys.executable, str(HERE / "plot.py"), str(result), str(plots)], check=True)
    print(f"\nResult: {result}; plots: {plots}")


def main() -> int:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=HERE.parent / "build" / "bench" / "result.json")
    own, options = parser.parse_known_args()
    own.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tunnelbench-run.") as folder:
        key = Path(folder) / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        server = f"{sys.executable} -m tunnel_server run"
        certificate, tls_key = new_certificate(Path(folder), "local.test", "*.local.test")
        settings = {
            "BASE_URL": "http://local.test:3000",
            "TUNNEL_SERVER_SSH_HOST_KEY_PATH": f"{folder}/host_key",
            "TUNNEL_SERVER_LISTEN_HOST": "127.0.0.1",
            "TLS_PORT": "8443",
            "TLS_CERT_FILE": certificate,
            "TLS_KEY_FILE": tls_key,
        }
        command = [sys.executable, str(HERE / "bench.py"), "--name", "ours", "--server-cmd", server]
        command += ["--https-port", settings["TLS_PORT"]]
        for name, value in settings.items():
            command += ["--env", f"{name}={value}"]
        command += ["--key", str(key), "--out", str(own.out), *(options or ALL)]
        quiet = None if {"-h", "--help"} & set(options) else subprocess.DEVNULL
        status = subprocess.run(command, stdout=quiet, env=os.environ).returncode
    if status == 0 and quiet:
        report(own.out)
    return status


if __name__ == "__main__":
    sys.exit(main())
