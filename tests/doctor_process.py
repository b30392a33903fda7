"""The doctor as a program that is asked many times: a line of JSON with its environment in, the findings out."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from tunnel_server.app.doctor.checks import run_checks
from tunnel_server.app.doctor.inputs import How, read_inputs
from tunnel_server.domain.diagnosis.finding import healthy

print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    os.environ.clear()
    os.environ.update(asked["environ"])
    inputs = read_inputs({}, os.environ, None, How.of(asked["timeout"], asked["time_server"]))
    findings = asyncio.run(run_checks(inputs))
    told = {check: {"verdict": each.verdict, "found": each.found, "fix": each.fix} for check, each in findings.items()}
    print(json.dumps([0 if healthy(findings.values()) else 1, told]), flush=True)
