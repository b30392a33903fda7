"""The services at the far end of every tunnel."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from basics import HERE, PY, TUNNELS, sparse_file, stop, wait_port


class Origin:
    """nginx for files and a small Python process for websockets and uploads."""

    def __init__(self, work: Path):
        self.dir = work / "origin"
        www = self.dir / "www"
        www.mkdir(parents=True)
        (www / "1k").write_bytes(os.urandom(512).hex().encode())
        (www / "100k").write_bytes(os.urandom(51200).hex().encode())
        sparse_file(www / "1g", 1 << 30)
        conf = self.dir / "nginx.conf"
        conf.write_text(f"""
worker_processes 1; daemon off; pid {self.dir}/nginx.pid; error_log {self.dir}/error.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000; keepalive_timeout 120s;
  default_type application/octet-stream;
  client_body_temp_path {self.dir}/t1; proxy_temp_path {self.dir}/t2; fastcgi_temp_path {self.dir}/t3;
  uwsgi_temp_path {self.dir}/t4; scgi_temp_path {self.dir}/t5;
  server {{ listen 127.0.0.1:5000 backlog=4096; root {www};
    location = / {{ default_type text/plain; return 200 ok; }} }}
}}
""")
        self.nginx = subprocess.Popen(["nginx", "-p", str(self.dir), "-c", str(conf)])
        self.py = subprocess.Popen([PY, str(HERE / "pyorigin.py"), "5001", "5002"], stderr=subprocess.DEVNULL)
        for p in TUNNELS.values():
            wait_port(p)

    def pids(self):
        return [self.nginx.pid, self.py.pid]

    def stop(self):
        stop(self.nginx)
        stop(self.py)
