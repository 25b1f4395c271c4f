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
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.log: list[str] = []
        self.records: dict[str, list[dict]] = {}

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """A client that goes away is what the tests are about."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        path, _, query = self.path.partition("?")
        fault = self._fault(path)
        if fault.isdigit():
            self._send(b"stumbled", int(fault))
        elif path == "/isic":
            self._search(urllib.parse.parse_qs(query))
        elif path in self.server.files:
            self._send(self.server.files[path], cut=fault == "cut")
        else:
            self._send(b"nothing here", 404)

    def _fault(self, path):
        self.server.log.append(self.path.partition("?")[0])
        waiting = self.server.faults[path]
        fault = waiting.pop(0) if waiting else ""
        if fault == "slow":
            select.select([self.connection], [], [], 60)  # until the other side has gone
        return fault

    def _search(self, query):
        """Three results a page."""
        words, at = query["query"][0], int(query.get("cursor", ["0"])[0])
        if words not in self.server.records:
            return self._send(b'{"message": "Could not parse query string"}', 400)
        found = self.server.records[words]
        link = f"{self.server.address}/isic?{urllib.parse.urlencode({'query': words, 'cursor': at + 3})}"
        answer = {"results": found[at : at + 3], "next": link if at + 3 < len(found) else None}
        return self._send(json.dumps(answer).encode())

    def _send(self, data, code=200, *, cut=False):
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True


@contextlib.contextmanager
def serving():
    """A server that runs while the block does."""
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
