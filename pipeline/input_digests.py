"""What the poses of one image depend on, as digests by name, to recognise results of other inputs.

These are its photo, camera, detections and targets, and the program itself. What else all images of a run
have in common is the run's fingerprint, see `pipeline.bop_run`.
"""

import functools
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass
from glob import escape
from pathlib import Path

import cv2
import moderngl
import numpy as np
import PIL
import scipy
import timm
import torch
import trimesh
from torch import Tensor

from picopose.datasets.bop.test_set import BopTestSet
from picopose.model.confidence import CALIBRATION
from picopose.model.methods import find_module
from picopose.model.pretrained import WEIGHT_FILES
from picopose.pipeline.starts import DatasetStart
from picopose.utils.config import Config

POSES_VERSION = 1  # raise this whenever a change of the code changes poses
_LIBRARIES = (cv2, moderngl, np, PIL, scipy, timm, torch, trimesh)
_READERS = 8  # threads: reading photos is mostly waiting


def inputs_of(dataset: BopTestSet, start: DatasetStart, index: int) -> dict[str, str]:
    """Digests of what the poses in an image of a data set depend on; a photo that is missing has none."""
    target = dataset.images[index]
    camera = {name: value for name, value in vars(target).items() if name not in ("path", "instances")}
    inputs = {
        "camera": digest(content_of(camera)),
        "targets": digest(content_of(target.instances)),
        "detections": digest(content_of(start.of_image(target.scene_id, target.im_id))),
        "program": program_digest(),
    }
    try:
        return inputs | {"photo": digest(target.path.read_bytes())}
    except OSError:  # reported when the photo is loaded
        return inputs


def inputs_of_all(dataset: BopTestSet, start: DatasetStart, indices: Sequence[int]) -> list[dict[str, str]]:
    """As `inputs_of`, for many images."""
    with ThreadPoolExecutor(_READERS) as executor:
        return list(executor.map(functools.partial(inputs_of, dataset, start), indices))


@functools.cache
def program_digest() -> str:
    """Digest of `POSES_VERSION`, the weights that come with the program, and the libraries' versions."""
    versions = " ".join([str(POSES_VERSION), *(library.__version__ for library in _LIBRARIES)])
    weights = b"".join(path.read_bytes() for path in (*WEIGHT_FILES, CALIBRATION))
    return digest(weights + versions.encode())


def weights_digests(config: Config) -> dict[str, str]:
    """Of the run's checkpoint, and of the weights that stages have of their own."""
    weights = {"checkpoint": config.checkpoint}
    weights |= {
        f"{name}'s weights": own["weights"] for name, own in config.options.items() if "weights" in own
    }
    return {key: file_digest(path) for key, path in weights.items()}


def module_digest(name: str) -> str:
    """Of the code of a stage from outside; the program's own is counted by its version."""
    return file_digest(find_module(name).__file__) if "." in name else ""


def file_digest(path: str | None) -> str:
    """Of a file's content, of those in a folder with their names, or of those whose names begin so."""
    if not path or Path(path).is_file():
        return digest(Path(path).read_bytes()) if path else str(path)
    folder = Path(path).is_dir()
    candidates = Path(path).iterdir() if folder else Path(path).parent.glob(f"{escape(Path(path).name)}.*")
    files = sorted(file for file in candidates if file.is_file())
    if not folder and not files:
        return str(path)
    return digest(" ".join(f"{file.name} {file_digest(str(file))}" for file in files).encode())


def digest(content: bytes) -> str:
    """Sixteen hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:16]


def content_of(value: object) -> bytes:
    """All that a value holds; a path stands for its file's content."""
    if isinstance(value, Path):
        return value.read_bytes() if value.is_file() else repr(value).encode()
    if isinstance(value, Tensor | np.ndarray):
        array = np.asarray(value)
        return f"{array.dtype}{array.shape}".encode() + array.tobytes()
    if is_dataclass(value):
        return content_of([getattr(value, field.name) for field in fields(value)])
    if isinstance(value, dict):
        return content_of(list(value.items()))
    if isinstance(value, list | tuple):
        return b"[" + b",".join(map(content_of, value)) + b"]"
    return repr(value).encode()
