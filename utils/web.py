"""Opens files on the web: redirects, Google Drive's page of confirmation, and pages in place of files."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from html.parser import HTMLParser
from http.client import HTTPException, HTTPResponse
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import (
    HTTPCookieProcessor,
    HTTPRedirectHandler,
    OpenerDirector,
    Request,
    build_opener,
)

from picopose.utils.errors import InputError

_TIMEOUT = 30  # s without a sign of the server
_LONGEST_PAGE = 1 << 20  # bytes
_MAY_PASS = {408, 425, 429}  # HTTP's codes for try again later, besides those from 500 on
_NO_RANGE = 416
_PAGE = (b"<!doctype html", b"<html")  # how pages begin
_PART = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')


class Broken(Exception):
    """A connection that could not be made or broke off; another try may help."""


@dataclass(frozen=True)
class Answer:
    """A file that a server begins to send.

    Attributes:
        body: its bytes from `start` on.
        start: 0, or the first byte that was asked for.
        size: of the whole file, in bytes; None where the server does not say.
        validator: what the server knows this version of the file by, for `If-Range`.
        sha256: its digest, where the server says it.
    """

    body: HTTPResponse
    start: int
    size: int | None
    validator: str | None
    sha256: str | None


@contextmanager
def opened(address: str, *, start: int = 0, validator: str | None = None) -> Iterator[Answer]:
    """The file at an address, from a byte on if the server can do that and still has the same version.

    A page that asks for confirmation, as Google Drive has for large files, is answered.

    Raises:
        Broken: no connection, or the server has trouble.
        InputError: the server has no such file, or sends a page in its place.
    """
    headers = {"Range": f"bytes={start}-"} if start else {}
    if start and validator:
        headers["If-Range"] = validator
    redirects = _Redirects()
    opener = build_opener(redirects, HTTPCookieProcessor())
    body = _open(opener, address, headers)
    try:
        if (page := _page(body)) and (confirmed := page.confirmed(body.url)):
            body.close()
            body = _open(opener, confirmed, headers)
            page = _page(body)
        if page:
            title = " ".join(page.title.split()) or "untitled"
            raise InputError(
                f"{address}: a web page came in place of the file ({title}); open the address in a browser, "
                "or look for the file at its authors'"
            )
        yield _answer(body, start, redirects.sha256)
    finally:
        body.close()


def _open(opener: OpenerDirector, address: str, headers: dict[str, str]) -> HTTPResponse:
    """The server's answer; `Range` is left out where the server finds no such part."""
    try:
        return opener.open(Request(address, headers=headers | {"User-Agent": "picopose"}), timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == _NO_RANGE and "Range" in headers:
            return _open(opener, address, {})
        said = f"{urlsplit(address).hostname} answers {error.code} {error.reason}".strip()
        if error.code in _MAY_PASS or error.code >= 500:
            raise Broken(said) from None
        raise InputError(f"{address}: {said}; look for the file at its authors'") from None
    except (OSError, HTTPException) as error:
        raise Broken(f"{urlsplit(address).hostname} cannot be reached ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or str(reason) or type(error).__name__


def blocks(body: HTTPResponse) -> Iterator[bytes]:
    """What comes, as it comes; `Broken` where the connection breaks off and that can be seen."""
    while True:
        try:
            block = body.read1(1 << 18)
        except (OSError, HTTPException) as error:
            raise Broken(f"the connection broke off ({_reason(error)})") from None
        if not block:
            return
        yield block


def _answer(body: HTTPResponse, start: int, sha256: str | None) -> Answer:
    etag = body.headers.get("ETag")
    validator = etag if etag and not etag.startswith("W/") else body.headers.get("Last-Modified")
    length = body.headers.get("Content-Length", "")
    size = int(length) if length.isdecimal() else None
    if body.status != 206:
        return Answer(body, 0, size, validator, sha256)
    part = _PART.fullmatch(body.headers.get("Content-Range", ""))
    if part is None or int(part[1]) != start:
        raise InputError(f"{body.url}: another part came than was asked for; fetch the file by hand")
    return Answer(body, start, None if part[2] == "*" else int(part[2]), validator, sha256)


class _Redirects(HTTPRedirectHandler):
    """Follows redirects, but not from https to http; keeps the digest that Hugging Face tells in one."""

    sha256: str | None = None

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        _check_secure(req.full_url, newurl)
        if digest := _SHA256.fullmatch(headers.get("X-Linked-ETag", "")):
            self.sha256 = digest[1]
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_secure(before: str, after: str) -> None:
    if urlsplit(after).scheme not in ("https", urlsplit(before).scheme):
        raise InputError(f"{before}: leads to {after}, which is not https; look for the file at its authors'")


class _Page(HTMLParser):
    """A web page: its title, and the hidden entries of the form that asks for confirmation."""

    def __init__(self, text: str):
        super().__init__()
        self.title, self.action, self.entries = "", "", {}
        self._in_title = self._in_form = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._in_title = tag == "title" and not self.title
        if tag == "form" and "confirm" not in self.entries:
            self._in_form, self.action, self.entries = True, given.get("action", ""), {}
        elif tag == "input" and self._in_form and given.get("type") == "hidden":
            self.entries[given.get("name", "")] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False
        self._in_form = self._in_form and tag != "form"

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data

    def confirmed(self, address: str) -> str | None:
        """Where the form leads to, on the page of this address; None on other pages."""
        if "confirm" not in self.entries:
            return None
        action = urljoin(address, self.action)
        _check_secure(address, action)
        return f"{action}{'&' if urlsplit(action).query else '?'}{urlencode(self.entries)}"


def _page(body: HTTPResponse) -> _Page | None:
    """The web page that came in place of a file, by what the server says or by how it begins."""
    try:
        begins = body.peek(512)[:512].lstrip().lower() if body.status != 206 else b""
        if body.headers.get_content_type() != "text/html" and not begins.startswith(_PAGE):
            return None
        return _Page(body.read(_LONGEST_PAGE).decode(errors="replace"))
    except (OSError, HTTPException) as error:
        raise Broken(f"the connection broke off ({_reason(error)})") from None
