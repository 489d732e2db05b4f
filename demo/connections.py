"""A server with a bounded number of connections, which slow clients cannot occupy."""

import io
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from flask import Flask
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

CONNECTIONS = 64  # at a time
# Seconds until a client must have sent its first bytes; each `SLOWEST` bytes extend them by a second.
PATIENCE = 20.0
SLOWEST = 64 << 10  # bytes per second
READING = 60.0  # seconds for a client to read a part of a response
PARTING = 2.0  # seconds to wait for open connections when the server ends
FULL = b"""{"error": "too many connections at once: try again in a minute"}\n"""
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 60\r\nConnection: close\r\n"
REFUSAL += b"Content-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n" % len(FULL) + FULL


class BoundedServer(ThreadedWSGIServer):
    """Serves an app.

    Args:
        most: bytes read from a connection at most.
        ending: called once, when the server is closed.
    """

    def __init__(self, host: str, port: int, app: Flask, *, most: int, ending: Callable[[], None]):
        self.most, self._ending = most, ending
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        self._closed = False
        super().__init__(host, port, app, _Handler)

    def process_request(self, request: socket.socket, client_address: tuple) -> None:
        if not self._free.acquire(blocking=False):
            with suppress(OSError):
                request.settimeout(1.0)
                request.sendall(REFUSAL)
            return self.shutdown_request(request)
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: socket.socket, client_address: tuple) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def server_close(self) -> None:
        super().server_close()
        if self._closed:
            return
        self._closed = True
        self._ending()
        end = time.monotonic() + PARTING
        for _ in range(CONNECTIONS):
            if not self._free.acquire(timeout=max(0.0, end - time.monotonic())):
                return


def has_hung_up(connection: socket.socket) -> bool:
    """Whether a connection is closed, by either side."""
    if connection.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


class _Handler(WSGIRequestHandler):
    server: BoundedServer
    timeout = READING

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Incoming(self.connection, self.server.most), 1 << 16)


class _Incoming(io.RawIOBase):
    """The bytes from a client. They end when it ends, is too slow or has sent `most` bytes."""

    def __init__(self, connection: socket.socket, most: int):
        self._connection, self._left = connection, most
        self._deadline = time.monotonic() + PATIENCE

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        now = time.monotonic()
        if now >= self._deadline or self._left <= 0:
            return 0
        try:
            self._connection.settimeout(self._deadline - now)
            count = self._connection.recv_into(buffer)
            self._connection.settimeout(READING)
        except OSError:  # too slow, or gone
            return 0
        self._left -= count
        # A client that was fast at first gains no time to be slow later.
        self._deadline = min(self._deadline + count / SLOWEST, time.monotonic() + PATIENCE)
        return count
