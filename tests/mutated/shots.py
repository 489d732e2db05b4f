"""Readers of what a user brings: photos, depth, cameras, masks and detections."""

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from werkzeug.datastructures import FileStorage

from picopose.datasets.depth_images import read_depth_image
from picopose.datasets.images import read_image
from picopose.datasets.places import find_places
from picopose.demo.shots import CameraHint, PlaceHint, Shot, read_shot
from picopose.demo.uploads import receive
from tests.mutated.meshes import rows
from tests.mutated.soundness import check_mask, finite, is_camera, sound
from tests.mutation_cases import Reader
from tests.small_bop import HEIGHT, WIDTH, K, box_mask, detection, dump, photo


def write_photo(folder: Path, name: str, *, grey: bool = False, bits: int = 8, **options: Any) -> None:
    Image.fromarray(photo(3, grey=grey, bits=bits)).save(folder / name, **options)


def exif_of_a_camera() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 1  # orientation: upright
    exif.get_ifd(0x8769).update({0xA405: 35, 0x920A: 4.5})  # focal lengths in mm, on film and here
    return exif


def check_photo(image: torch.Tensor) -> None:
    sound(
        image.dtype == torch.uint8 and image.ndim == 3 and image.shape[0] == 3 and image.numel(),
        "no RGB image",
    )


def pictures(name: str, form: str = "binary", **options: Any) -> Reader:
    def write(folder: Path) -> None:
        write_photo(folder, name, **options)

    return Reader(write, lambda folder: read_image(folder / name), check_photo, [(name, form)])


FX, _, CX, _, FY, CY, *_ = K
SIZES = {"width": WIDTH, "height": HEIGHT}
ROS = {
    "image_width": WIDTH,
    "image_height": HEIGHT,
    "camera_name": "front",
    "camera_matrix": {"rows": 3, "cols": 3, "data": K},
    "distortion_model": "plumb_bob",
    "distortion_coefficients": {"rows": 1, "cols": 5, "data": [0.0] * 5},
}
BENT = ROS | {"distortion_coefficients": {"rows": 1, "cols": 5, "data": [0.05, -0.02, 0.001, 0.0, 0.0]}}
CAMERAS = {
    "json-pinhole": ("camera.json", {"fx": FX, "fy": FY, "cx": CX, "cy": CY, "depth_scale": 1.0} | SIZES),
    "json-matrix": ("camera.json", {"cam_K": K}),
    "json-rows": ("camera.json", {"K": [K[:3], K[3:6], K[6:]], "resolution": [HEIGHT, WIDTH]}),
    "json-ros": ("camera.json", {"K": K, "D": [0.0] * 5, "distortion_model": "plumb_bob"} | SIZES),
    "json-realsense": (
        "camera.json",
        {"fx": FX, "fy": FY, "ppx": CX, "ppy": CY, "model": "distortion.brown_conrady", "coeffs": [0.0] * 5}
        | SIZES,
    ),
    "json-open3d": ("camera.json", {"intrinsic_matrix": [FX, 0, 0, 0, FY, 0, CX, CY, 1]} | SIZES),
    "yaml-ros": ("camera.yaml", ROS),
    "yaml-distorted": ("camera.yaml", BENT),
    "text-matrix": ("camera.txt", rows(np.reshape(K, (3, 3)))),
}


def camera(kind: str) -> Reader:
    name, content = CAMERAS[kind]

    def write(folder: Path) -> None:
        write_photo(folder, "photo.png")
        as_yaml = name.endswith("yaml")
        text = yaml.safe_dump(content) if as_yaml else json.dumps(content)
        (folder / name).write_text(content if isinstance(content, str) else text)

    def read(folder: Path) -> Shot:
        return shot(folder / "photo.png", CameraHint(file=str(folder / name)))

    return Reader(write, read, check_shot, [(name, "json" if name.endswith("json") else "text")])


KNOWN = CameraHint(K=[str(value) for value in (FX, FY, CX, CY)])


def shot(
    photo: Path, camera: CameraHint = KNOWN, *, mask: Path | None = None, found: Path | None = None
) -> Shot:
    """A photo as `run_demo.py` reads it, with a box where neither a mask nor detections are given."""
    if found is not None:
        places = PlaceHint(detections=find_places(found, [photo], ["obj_000002"]))
    else:
        places = PlaceHint([mask]) if mask is not None else PlaceHint([(5, 6, 15, 18)])
    return read_shot(photo, camera, places, ["obj_000002"])


def check_shot(shot: Shot) -> None:
    height, width = shot.image.shape[:2]
    sound(
        is_camera(shot.K) and shot.K[0, 0] < 100 * width and shot.K[1, 1] < 100 * height,
        "no camera of this photo",
    )
    for place in shot.places:
        check_mask(place.mask, height, width)


def read_with_exif(folder: Path) -> Shot:
    return shot(folder / "photo.jpg", CameraHint())


def write_masked(folder: Path) -> None:
    write_photo(folder, "photo.png")
    Image.fromarray(box_mask(5, 6, 10, 12).astype(np.uint8) * 255).save(folder / "mask.png")


def read_masked(folder: Path) -> Shot:
    return shot(folder / "photo.png", mask=folder / "mask.png")


def receive_photo(folder: Path) -> torch.Tensor:
    """A photo as the page takes it in."""
    form = {"left": "5", "top": "6", "right": "15", "bottom": "18"}
    mesh = FileStorage(io.BytesIO(b"v 0 0 0"), "mesh.obj")
    with (folder / "photo.tif").open("rb") as file, tempfile.TemporaryDirectory() as saved:
        upload = receive(FileStorage(file, "photo.tif"), [mesh], form, Path(saved))
        return read_image(upload.photo, upright=True)


MASKS = [box_mask(5, 6, 10, 12), box_mask(30, 20, 20, 8)]
BOP_LIST = [detection(3, k + 2, 0.9 - k / 4, (5, 6, 10, 12), mask=MASKS[k]) for k in range(2)]
MEGAPOSE_LIST = [{"label": "obj_000002", "bbox_modal": [5, 6, 15, 18]}]
COCO_FILE = {
    "images": [{"id": 3, "file_name": "000003.png"} | SIZES],
    "categories": [{"id": 2, "name": "obj_000002"}],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 2, "bbox": [5, 6, 10, 12], "iscrowd": 0}
        | {"area": 120, "segmentation": [[5, 6, 15, 6, 15, 18, 5, 18]]}
    ],
}


def places(content: Any) -> Reader:
    def write(folder: Path) -> None:
        write_photo(folder, "000003.png")
        dump(folder / "found.json", content)

    def read(folder: Path) -> Shot:
        return shot(folder / "000003.png", found=folder / "found.json")

    return Reader(write, read, check_shot, [("found.json", "json")])


def depth(name: str, kind: type, form: str) -> Reader:
    """Of a depth image, in mm where its numbers are integers and else in m."""

    def write(folder: Path) -> None:
        metres = np.linspace(0.4, 2, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
        values = (metres * (1000 if np.issubdtype(kind, np.integer) else 1)).astype(kind)
        path = folder / name
        np.save(path, values) if path.suffix == ".npy" else Image.fromarray(values).save(path)

    return Reader(
        write, lambda folder: read_depth_image(folder / name, HEIGHT, WIDTH), check_depth, [(name, form)]
    )


def check_depth(depth: np.ndarray) -> None:
    sound(depth.shape == (HEIGHT, WIDTH) and finite(depth) and (depth >= 0).all(), "no depth")
    sound(0.1 <= np.median(depth[depth > 0]) <= 20, "depth that cannot be")


READERS: dict[str, Reader] = {
    "photo-png": pictures("photo.png", "png"),
    "photo-png-16": pictures("photo.png", "png", grey=True, bits=16),
    "photo-jpeg": pictures("photo.jpg"),
    "photo-tiff": pictures("photo.tif"),
    "photo-tiff-packed": pictures("photo.tif", compression="tiff_lzw"),
    "photo-pgm": pictures("photo.pgm", "headed", grey=True),
    "photo-exif": Reader(
        lambda folder: write_photo(folder, "photo.jpg", exif=exif_of_a_camera()),
        read_with_exif,
        check_shot,
        [("photo.jpg", "binary")],
    ),
    "mask": Reader(write_masked, read_masked, check_shot, [("mask.png", "png")]),
    "depth-png": depth("depth.png", np.uint16, "png"),
    "depth-tiff": depth("depth.tif", np.float32, "binary"),
    "depth-npy": depth("depth.npy", np.float32, "headed"),
    "page-photo": Reader(
        lambda folder: write_photo(folder, "photo.tif", compression="tiff_lzw"),
        receive_photo,
        check_photo,
        [("photo.tif", "binary")],
    ),
    **{f"camera-{kind}": camera(kind) for kind in CAMERAS},
    "places-bop": places(BOP_LIST),
    "places-coco": places(COCO_FILE),
    "places-megapose": places(MEGAPOSE_LIST),
}
