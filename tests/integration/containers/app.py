"""An app: says hello, and streams what ends when it is told to."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

release = threading.Event()


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        match self.path:
            case "/held":  # begins, and ends after somebody asked for /release
                self.begin(10)
                self.wfile.write(b"begin")
                release.wait(60)
                self.wfile.write(b"+done")
            case "/release":
                release.set()
                self.answer(b"released")
            case "/large":
                self.begin(1 << 30)
                for _ in range(1 << 10):
                    self.wfile.write(bytes(1 << 20))
            case _:
                self.answer(b"hello from the app")

    def answer(self, body: bytes) -> None:
        self.begin(len(body))
        self.wfile.write(body)

    def begin(self, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True


Server(("", 5000), App).serve_forever()
