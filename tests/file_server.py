"""A server of files on this computer that behaves like those of the web: redirects, ranges, trouble."""

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PAGE = b"""<!DOCTYPE html><html><head><title>%s</title></head><body><form id="search" action="/find">
<input type="hidden" name="q" value="1"></form>%s</body></html>"""
FORM = b"""<form id="download-form" action="/confirmed" method="get">
<input type="submit" value="Download anyway"><input type="hidden" name="id" value="7 &amp; 8">
<input type="hidden" name="confirm" value="t"></form>"""


@dataclass
class Content:
    """What lies at a path, and how it is given out."""

    data: bytes
    etag: str | None = '"one"'
    modified: str | None = None
    kind: str = "application/octet-stream"
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # after how many bytes answers break off, one after another
    codes: list[int] = field(default_factory=list)  # HTTP's, of answers before the file is given out
    gate: threading.Event | None = None  # waited for in the middle of the file


class FileServer(ThreadingHTTPServer):
    """The contents by path, and the requests: path and value of Range."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.contents: dict[str, Content] = {}
        self.requests: list[tuple[str, str | None]] = []

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def ranges(self, path: str) -> list[str | None]:
        return [range_ for asked, range_ in self.requests if asked == path]


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.requests.append((url.path, self.headers["Range"]))
        if url.path.startswith("/hugging/"):  # on to another address, and tells the digest
            path = url.path.removeprefix("/hugging")
            digest = sha256(self.server.contents[path].data).hexdigest()
            self._begin(302, Location=f"{path}?signed=1", **{"X-Linked-ETag": f'"{digest}"'})
        elif url.path == "/drive":
            self._page(PAGE % (b"Virus scan warning", FORM))
        elif url.path == "/confirmed" and parse_qs(url.query) != {"id": ["7 & 8"], "confirm": ["t"]}:
            self._page(PAGE % (b"Not confirmed", b""))
        elif content := self.server.contents.get(url.path):
            self._give(content)
        else:
            self.send_error(404)

    def _begin(self, code: int, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _page(self, text: bytes) -> None:
        self._begin(200, **{"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(text))})
        self.wfile.write(text)

    def _give(self, content: Content) -> None:
        if content.codes:
            self.send_error(content.codes.pop(0))
            return
        data, whole = content.data, len(content.data)
        headers = {"Content-Type": content.kind}
        headers |= {"ETag": content.etag} if content.etag else {}
        headers |= {"Last-Modified": content.modified} if content.modified else {}
        start, code = self._start(content), 200
        if start >= whole > 0:
            self._begin(416, **{"Content-Range": f"bytes */{whole}"})
            return
        if start:
            code, headers["Content-Range"] = 206, f"bytes {start}-{whole - 1}/{whole}"
        self._begin(code, **headers, **{"Content-Length": str(whole - start)})
        self._send(data[start:], content)

    def _start(self, content: Content) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        same = self.headers["If-Range"] in (None, content.etag, content.modified)
        return int(asked[1]) if asked and same and content.ranges else 0

    def _send(self, data: bytes, content: Content) -> None:
        data = data[: content.cuts.pop(0)] if content.cuts else data
        with contextlib.suppress(OSError):  # whoever asked has gone
            if content.gate:
                self.wfile.write(data[: len(data) // 2])
                content.gate.wait(10)
                data = data[len(data) // 2 :]
            self.wfile.write(data)


@contextlib.contextmanager
def serving() -> Iterator[FileServer]:
    """A server that answers while the block runs."""
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
