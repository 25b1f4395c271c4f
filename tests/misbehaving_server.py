"""A local HTTP server that speaks the ISIC Archive's language and can stumble on purpose."""

import contextlib
import http.server
import json
import select
import threading
import urllib.parse
from collections import defaultdict


class Server(http.server.ThreadingHTTPServer):
    """Files by path, and faults by path: a list of what the next answers do ("500", "cut", "slow")."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.log: list[str] = []
        self.records: dict[str, list[dict]] = {}

    def handle_error(self, request, client_address):
        """A client that goes away is what the tests are about."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        path, _, query = self.path.partition("?")
        self.server.log.append(path)
        waiting = self.server.faults[path]
        fault = waiting.pop(0) if waiting else ""
        if fault == "slow":
            select.select([self.connection], [], [], 60)  # until the other side has gone
        code, data = (int(fault), b"stumbled") if fault.isdigit() else self._answer(path, query)
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
        self.close_connection = fault == "cut"

    def _answer(self, path, query):
        """A file; or of a search three results a page."""
        if path != "/isic":
            return (200, self.server.files[path]) if path in self.server.files else (404, b"nothing here")
        query = urllib.parse.parse_qs(query)
        words, at = query["query"][0], int(query.get("cursor", ["0"])[0])
        if words not in self.server.records:
            return 400, b'{"message": "Could not parse query string"}'
        found = self.server.records[words]
        link = f"{self.server.address}/isic?{urllib.parse.urlencode({'query': words, 'cursor': at + 3})}"
        return 200, json.dumps({"results": found[at : at + 3], "next": link if at + 3 < len(found) else None}).encode()


@contextlib.contextmanager
def serving():
    """A server that runs while the block does."""
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
