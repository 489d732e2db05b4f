"""What the poses of one image depend on, as digests by name, so that results of other inputs are told.

Its photo, its camera, its detections and targets, and the program itself. What all images of a run have in
common beside the program is the run's fingerprint, see `pipeline.bop_run`.
"""

import functools
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass
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
from picopose.model.pretrained import WEIGHT_FILES
from picopose.pipeline.starts import DatasetStart

POSES_VERSION = 1  # raise this whenever a change of the code changes poses
_LIBRARIES = (cv2, moderngl, np, PIL, scipy, timm, torch, trimesh)
_READERS = 8  # threads: reading photos is mostly waiting


def inputs_of(dataset: BopTestSet, start: DatasetStart, index: int) -> dict[str, str]:
    """Digests of what the poses in an image of a data set depend on; a photo that is missing has none."""
    target = dataset.images[index]
    camera = {name: value for name, value in vars(target).items() if name not in ("path", "instances")}
    inputs = {
        "camera": digest(_content(camera)),
        "targets": digest(_content(target.instances)),
        "detections": digest(_content(start.of_image(target.scene_id, target.im_id))),
        "program": program_digest(),
    }
    try:
        return inputs | {"photo": digest(target.path.read_bytes())}
    except OSError:  # told where the photo is asked for
        return inputs


def inputs_of_all(dataset: BopTestSet, start: DatasetStart, indices: Sequence[int]) -> list[dict[str, str]]:
    """As `inputs_of`, of many images."""
    with ThreadPoolExecutor(_READERS) as executor:
        return list(executor.map(functools.partial(inputs_of, dataset, start), indices))


@functools.cache
def program_digest() -> str:
    """Digest of `POSES_VERSION`, the weights that come with the program, and the libraries' versions."""
    versions = " ".join([str(POSES_VERSION), *(library.__version__ for library in _LIBRARIES)])
    weights = b"".join(path.read_bytes() for path in (*WEIGHT_FILES, CALIBRATION))
    return digest(weights + versions.encode())


def digest(content: bytes) -> str:
    """Sixteen hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:16]


def _content(value: object) -> bytes:
    """All that a value holds; a path stands for its file's content."""
    if isinstance(value, Path):
        return value.read_bytes() if value.is_file() else repr(value).encode()
    if isinstance(value, Tensor | np.ndarray):
        array = np.asarray(value)
        return f"{array.dtype}{array.shape}".encode() + array.tobytes()
    if is_dataclass(value):
        return _content([getattr(value, field.name) for field in fields(value)])
    if isinstance(value, dict):
        return _content(list(value.items()))
    if isinstance(value, list | tuple):
        return b"[" + b",".join(map(_content, value)) + b"]"
    return repr(value).encode()
