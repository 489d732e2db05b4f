"""Whether the page's memory stays level: sends requests of all kinds and tells what the process holds then.

`python -m benchmarks.page_load --requests 500` with the default method; `-- --config config/lite.yaml` and
other options of `run_demo.py` after two dashes.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path

import numpy as np
import trimesh

ROOT = Path(__file__).resolve().parent.parent
MINI = ROOT / "data" / "mini"
PHOTO = MINI / "test" / "000001" / "rgb" / "000000.jpg"
FIELDS = {"camera": "K", "fx": 612.3, "fy": 611.8, "cx": 319.6, "cy": 241.7}
FIELDS |= {"left": 333, "top": 232, "right": 485, "bottom": 386, "unit": "mm"}
# In turn: right ones of two meshes, a mesh never seen before, a damaged one, one that nobody waits for.
KINDS = ("same", "other", "same", "new", "same", "damaged", "other", "same", "abandoned", "same")
SETTLED = 20  # requests after which everything that stays is there
SECONDS = 300  # that an answer may take on a busy machine


@contextmanager
def own_page(options: Sequence[str], log_dir: str) -> Iterator[tuple[subprocess.Popen, int]]:
    """A process that serves the page, and its port."""
    command = [sys.executable, "run_demo.py", "--serve", "--port", "0", "--gpus", "cpu"]
    command += [*options, f"log_dir={log_dir}"]
    page = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        for line in page.stderr:
            if found := re.search(r"http://\S+?:(\d+)", line):
                break
        else:
            raise SystemExit("the page did not start")
        yield page, int(found[1])
    finally:
        page.terminate()
        page.communicate()


def mesh_of(kind: str, count: int) -> list[tuple[str, bytes]]:
    """Files of a mesh by name; `count` makes a new one differ from all before."""
    models = MINI / "models"
    if kind == "damaged":
        return [("damaged.ply", (models / "obj_000002.ply").read_bytes()[:3000])]
    if kind == "other":
        return [("bowl.ply", (models / "obj_000004.ply").read_bytes())]
    if kind == "new":
        size = np.array([60, 90, 120]) * (1 + 1e-3 * count)
        return [("new.ply", trimesh.creation.box(size).export(file_type="ply"))]
    return [(name, (models / name).read_bytes()) for name in ("obj_000002.ply", "obj_000002.png")]


def form_of(meshes: Sequence[tuple[str, bytes]]) -> tuple[bytes, str]:
    """The body of a request, and its type."""
    boundary = uuid.uuid4().hex
    parts = [(f'name="{name}"', str(value).encode()) for name, value in FIELDS.items()]
    parts += [('name="photo"; filename="photo.jpg"', PHOTO.read_bytes())]
    parts += [(f'name="mesh"; filename="{name}"', content) for name, content in meshes]
    head = f"--{boundary}\r\nContent-Disposition: form-data; "
    body = b"".join(f"{head}{about}\r\n\r\n".encode() + content + b"\r\n" for about, content in parts)
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def ask(port: int, kind: str, count: int = 0) -> dict:
    """What the page tells last, a `result` or an `error`; nothing where nobody waits."""
    body, content_type = form_of(mesh_of(kind, count))
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("POST", "/pose", body, {"Content-Type": content_type})
        if kind == "abandoned":
            return {}
        return json.loads(connection.getresponse().read().splitlines()[-1])
    finally:
        connection.close()


def resident_mb(process: subprocess.Popen) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("options", nargs="*", help="of run_demo.py, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as log_dir, own_page(arguments.options, log_dir) as (page, port):
        start = time.perf_counter()
        settled = 0.0
        for count, kind in zip(range(1, arguments.requests + 1), cycle(KINDS)):
            told = next(iter(ask(port, kind, count)), "")
            if told != {"damaged": "error", "abandoned": ""}.get(kind, "result"):
                raise SystemExit(f"request {count}, {kind}: {told}")
            if count == SETTLED:
                settled = resident_mb(page)
            if count == SETTLED or count % 50 == 0:
                print(
                    f"{count:5d} requests, {time.perf_counter() - start:5.0f} s: {resident_mb(page):6.0f} MB",
                    flush=True,
                )
        print(f"{100 * resident_mb(page) / settled - 100:+.1f} % since request {SETTLED}")


if __name__ == "__main__":
    main()
