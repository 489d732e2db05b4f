"""The demo as a page on this computer: drop a photo and a mesh, draw a box, see the pose.

`python run_demo.py --serve`; one answer is computed at a time, and told step by step.
"""

import base64
import ipaddress
import json
import logging
import re
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import cv2
import numpy as np
from flask import Flask, Response, abort, render_template, request
from werkzeug.exceptions import HTTPException
from werkzeug.serving import BaseWSGIServer, make_server

from demo.results import results_of
from demo.shots import read_shot, unit_of
from demo.uploads import MAX_BYTES, Upload, harden_pictures, receive
from model.estimator import PoseEstimator
from rendering.renderer import Renderer
from utils.config import Config
from utils.errors import InputError
from utils.units import describe

LOG = logging.getLogger(__name__)
HEADERS = {
    # The page's own files only; pictures come within the answers.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
JPEG_QUALITY = 90
OWN_NAMES = (socket.gethostname().lower(), socket.getfqdn().lower())

Tell = Callable[[dict], None]  # sends the page a message


def make_page(estimator: PoseEstimator, host: str, port: int) -> BaseWSGIServer:
    """A server that waits for `serve_forever()`; port 0 takes a free one.

    Raises an `InputError` where the address cannot be had.
    """
    harden_pictures()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no line for each request
    try:
        return make_server(host, port, make_app(estimator, host), threaded=True)
    except (OSError, SystemExit):  # the library prints why and exits
        raise InputError(f"--host {host} --port {port}: cannot be had; pass another --port") from None


def make_app(estimator: PoseEstimator, host: str = "127.0.0.1") -> Flask:
    page = Path(__file__).parent / "page"
    app = Flask(__name__, static_folder=page, static_url_path="/page", template_folder=page)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BYTES + (1 << 16)  # the form's other fields
    turn = threading.Lock()

    @app.before_request
    def refuse_strangers() -> None:
        """Other sites that a browser has open may not use the page, under whatever name they reach it."""
        if not _is_own_name(request.host, host):
            abort(403, "this name is not the page's: open it by the address that the program printed")
        if request.headers.get("Origin", request.host_url[:-1]) != request.host_url[:-1]:
            abort(403, "asked by another site")

    @app.after_request
    def harden(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    @app.get("/")
    def show() -> str:
        return render_template("page.html", max_bytes=MAX_BYTES, method=method_of(estimator.config))

    @app.post("/pose")
    def answer() -> Response:
        folder = tempfile.TemporaryDirectory(prefix="picopose-")
        try:
            files = request.files
            upload = receive(files.get("photo"), files.getlist("mesh"), request.form, Path(folder.name))
        except InputError as error:
            folder.cleanup()
            return Response(_line({"error": _readable(error, folder.name)}), mimetype="application/x-ndjson")

        def work(tell: Tell) -> dict:
            with folder:
                tell({"doing": "Waiting for the one before"})
                with turn:
                    return find(estimator, upload, tell)

        lines = (_line(message) for message in _messages(work, folder.name))
        return Response(lines, mimetype="application/x-ndjson")

    @app.errorhandler(HTTPException)
    def explain(error: HTTPException) -> tuple[str, int]:
        reason = error.description
        if error.code == 413:
            reason = f"the files are too large: {MAX_BYTES >> 20} MB together are the limit"
        return _line({"error": reason}), error.code

    return app


def method_of(config: Config) -> str:
    """What finds the poses, for people."""
    if config.method == "rendermatch":
        return "render and match, without training"
    return f"PicoPose, weights {Path(config.checkpoint).name if config.checkpoint else 'random: meaningless'}"


def find(estimator: PoseEstimator, upload: Upload, tell: Tell) -> dict:
    """The pose in a photo, as the page shows it."""
    tell({"doing": "Reading the files"})
    name = upload.mesh.stem
    shot = read_shot(upload.photo, upload.camera, upload.place, [name])
    unit = unit_of(upload.mesh, name, shot) if upload.unit == "auto" else upload.unit

    def progress(done: int, total: int) -> None:
        tell({"doing": "Drawing views, once for a mesh", "done": done, "total": total})

    estimator.add_object(upload.mesh, name=name, unit=unit, symmetry=upload.symmetry, progress=progress)
    try:
        tell({"doing": "Finding the pose"})
        masks = [place.mask for place in shot.places]
        poses = estimator.estimate(shot.image, shot.K, masks=masks, objects=[name])
        with Renderer() as renderer:  # its context belongs to this thread
            results = results_of(renderer, estimator, shot, poses)
        size = describe(estimator.objects[name].diameter, unit)
    finally:
        estimator.remove_object(name)  # a page may run for days
    return {
        "numbers": results.numbers,
        "size": size,
        "overlay": _jpeg(results.overlay),
        "matches": _jpeg(results.matches[0]),
        "scene": base64.b64encode(results.scene).decode(),
    }


def _messages(work: Callable[[Tell], dict], folder: str) -> Iterator[dict]:
    """What some work tells while it runs, and in the end its result or why there is none."""
    told: SimpleQueue[dict | None] = SimpleQueue()

    def run() -> None:
        try:
            told.put({"result": work(told.put)})
        except InputError as error:
            told.put({"error": _readable(error, folder)})
        except Exception:  # a thread's end: whatever it is, the page must hear of it
            LOG.exception("the page's request failed")
            told.put({"error": "the program failed; what it printed in its terminal tells where"})
        told.put(None)

    threading.Thread(target=run, daemon=True).start()
    return iter(told.get, None)


def _readable(error: InputError, folder: str) -> str:
    """The message without the names of temporary folders and the dashes of options."""
    return re.sub(rf"{re.escape(folder)}/(photo|mesh)/|--(?=\w)", "", str(error))


def _is_own_name(asked: str, host: str) -> bool:
    """Whether a request's Host cannot be another site's: an address, this computer, or the given name."""
    name = re.sub(r":\d+$", "", asked).strip("[]")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.lower() in ("localhost", host, *OWN_NAMES)
    return True


def _line(message: dict) -> str:
    return json.dumps(message) + "\n"


def _jpeg(rgb: np.ndarray) -> str:
    _, content = cv2.imencode(
        ".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    return base64.b64encode(content).decode()
