"""The demo as a page on this computer: drop a photo and a mesh or a depth image, draw a box, see the pose.

`python run_demo.py --serve`; one request is computed at a time, and its progress is shown.
"""

import ipaddress
import json
import logging
import re
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from flask import Flask, Response, abort, render_template, request
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestTimeout, ServiceUnavailable

from picopose.demo.answers import find, method_of
from picopose.demo.connections import BoundedServer, has_hung_up
from picopose.demo.desk import Busy, Desk, Dropped, Job, Tell
from picopose.demo.uploads import MAX_BYTES, MAX_PARTS, Upload, harden_pictures, receive, receive_depth
from picopose.pipeline.category_estimator import IDS, CategoryEstimator
from picopose.pipeline.estimator import PoseEstimator
from picopose.utils.errors import InputError
from picopose.utils.home import ROOT
from picopose.utils.scratch import remove_leftovers, scratch_folder

Estimator = PoseEstimator | CategoryEstimator

LOG = logging.getLogger(__name__)
HEADERS = {
    # The page's own files only; pictures come within the answers.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
MAX_LENGTH = MAX_BYTES + (1 << 16)  # of a request: the form's other fields
LINES = "application/x-ndjson"  # a JSON object in each line
FAILED = "the program failed: see its output in the terminal"
OWN_NAMES = (socket.gethostname().lower(), socket.getfqdn().lower())
PLACES = 8  # requests under way: sent, waiting and computed
BUSY = "too many requests at the same time: try again in a minute"


def make_page(estimator: Estimator, host: str, port: int) -> BoundedServer:
    """A server that waits for `serve_forever()`; port 0 takes a free one.

    Raises an `InputError` where the address cannot be had.
    """
    harden_pictures()
    remove_leftovers()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no line for each request
    app = make_app(estimator, host)
    try:
        return BoundedServer(host, port, app, most=2 * MAX_BYTES, ending=app.extensions["desk"].close)
    except (OSError, SystemExit):  # the library prints why and exits
        raise InputError(f"--host {host} --port {port}: cannot be had; pass another --port") from None


def make_app(estimator: Estimator, host: str = "127.0.0.1") -> Flask:
    page = Path(__file__).parent / "page"
    app = Flask(__name__, static_folder=page, static_url_path="/page", template_folder=page)
    app.config["MAX_CONTENT_LENGTH"] = MAX_LENGTH
    app.config["MAX_FORM_PARTS"] = MAX_PARTS
    desk = app.extensions["desk"] = Desk(PLACES)

    @app.before_request
    def refuse_strangers() -> None:
        """Refuses requests from other sites that a browser has open, under any host name."""
        if not _is_own_name(request.host, host):
            abort(403, "unknown host name: open the page at the address that the program printed")
        if request.headers.get("Origin", request.host_url[:-1]) != request.host_url[:-1]:
            abort(403, "requested by another site")

    @app.after_request
    def harden(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    @app.get("/")
    def show() -> str:
        categories = list(IDS) if isinstance(estimator, CategoryEstimator) else []
        method = method_of(estimator.config)
        return render_template("page.html", max_bytes=MAX_BYTES, method=method, categories=categories)

    @app.post("/pose")
    def answer() -> Response:
        if request.content_length is None:
            abort(411, "the request does not say how long it is")
        try:
            messages = _answer(estimator, desk)
        except Busy:
            raise ServiceUnavailable(BUSY, retry_after=60) from None
        except OSError as error:  # the disk is full, most likely
            LOG.error("the uploaded files cannot be saved: %s", error)
            raise ServiceUnavailable(FAILED) from None
        return Response((_line(message) for message in messages), mimetype=LINES)

    @app.errorhandler(ClientDisconnected)
    def hang_up(_: ClientDisconnected) -> Response:
        return explain(RequestTimeout("the files came too slowly: send them again"))

    @app.errorhandler(HTTPException)
    def explain(error: HTTPException) -> Response:
        answer = error.get_response()
        answer.data, answer.mimetype = _line({"error": _reason(error)}), LINES
        return answer

    return app


def _reason(error: HTTPException) -> str | None:
    """Why a request is refused, as the page shows it."""
    if error.code != 413:
        return error.description
    if request.content_length > MAX_LENGTH:
        return f"the files are too large: {MAX_BYTES >> 20} MB together are the limit"
    return f"too many files and fields, or too long ones: {MAX_PARTS} are the limit"


def _answer(estimator: Estimator, desk: Desk) -> Iterator[dict]:
    """Messages that answer the request; raises `Busy` before anything of it is read."""
    with ExitStack() as held:
        held.enter_context(desk.place())
        files, form = request.files, request.form  # reads them
        folder = held.enter_context(scratch_folder())
        try:
            if isinstance(estimator, CategoryEstimator):
                upload = receive_depth(*map(files.get, ("photo", "depth", "mask")), form, folder)
            else:
                upload = receive(files.get("photo"), files.getlist("mesh"), form, folder)
        except InputError as error:
            return iter([_explained(error, folder, estimator)])
        connection = request.environ.get("werkzeug.socket")
        gone = partial(has_hung_up, connection) if connection else lambda: False
        work = partial(_work, estimator, upload, folder)
        return desk.take(Job(work, gone, end=held.pop_all().close))


def _work(estimator: Estimator, upload: Upload, folder: Path, tell: Tell) -> dict:
    """The last message: the result or the error."""
    try:
        with _warnings(partial(_warn, estimator, folder, tell)):
            return {"result": find(estimator, upload, tell)}
    except Dropped:
        raise
    except InputError as error:
        return _explained(error, folder, estimator)
    except Exception:  # whatever it is, the page must hear of it, and the next request have its turn
        LOG.exception("the page's request failed")
        return {"error": FAILED}


@contextmanager
def _warnings(heard: Callable[[str], None]) -> Iterator[None]:
    """Calls `heard` with each warning that the program logs in this thread."""
    thread = threading.get_ident()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread and record.name.startswith("picopose."):
                heard(record.getMessage())

    ear = Ear(logging.WARNING)
    logging.getLogger().addHandler(ear)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(ear)


def _warn(estimator: Estimator, folder: Path, tell: Tell, warning: str) -> None:
    """Sends the page a warning about its files."""
    text = _readable(warning, folder)
    if not _is_private(text, estimator):
        tell({"warning": text})


def _explained(error: InputError, folder: Path, estimator: Estimator) -> dict:
    """An error as the page shows it; one that names the program's own folders is only logged."""
    text = _readable(str(error), folder)
    if _is_private(text, estimator):
        LOG.error("%s", error)
        text = FAILED
    return {"error": text}


def _readable(text: str, folder: Path) -> str:
    """A message without the names of temporary folders."""
    return re.sub(rf"{re.escape(str(folder))}/((photo|mesh|depth|mask)/)?", "", text)


def _is_private(text: str, estimator: Estimator) -> bool:
    """Whether a message names a folder of the program."""
    config = estimator.config
    folders = (ROOT, config.log_dir, config.runtime.features_dir, tempfile.gettempdir())
    return any(str(folder) in text for folder in folders if folder)


def _is_own_name(asked: str, host: str) -> bool:
    """Whether a request's Host is an address, this computer or the given name, and so no other site."""
    name = re.sub(r":\d+$", "", asked).strip("[]")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.lower() in ("localhost", host, *OWN_NAMES)
    return True


def _line(message: dict) -> str:
    return json.dumps(message) + "\n"
