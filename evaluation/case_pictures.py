"""Pictures of single cases for the report: the photo about a target, outlines upon it, template and matches.

Pictures are JPEG files as data URIs; all that is drawn upon them is vectors in the pictures' coordinates, in
which, as in SVG, the top-left pixel covers 0 to 1.
"""

import base64
import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
import torch

from datasets.templates import Templates
from evaluation.cases import Case, TestedSet
from evaluation.errors import end_point_error
from evaluation.eval_models import EvalModel
from rendering.mesh import Mesh
from rendering.renderer import Renderer
from utils.errors import InputError
from utils.geometry import invert, sample_depth, transform, unproject
from utils.images import read_image
from utils.layouts import image_path
from utils.structs import View

SIDE = 320  # px, longer side of a photo's picture
_JPEG_QUALITY = 82
_MARGIN = 0.12  # about the outlines, as a share of their extent
_MIN_WINDOW = 48  # px of the photo


@dataclass(frozen=True)
class Picture:
    """A JPEG and the size of the coordinates that things are drawn in upon it."""

    uri: str
    width: float
    height: float


@dataclass(frozen=True)
class Point:
    """A match: where it is in the photo's picture and in the template's."""

    photo: tuple[float, float]
    template: tuple[float, float]
    colour: str


@dataclass(frozen=True)
class CasePictures:
    """What is drawn of one case; outlines are SVG path data."""

    photo: Picture
    true_outline: str
    outline: str | None
    template: Picture | None
    points: tuple[Point, ...]
    match_error: float | None  # px of the photo, see `match_error`; None without matches


class CasePainter:
    """Draws the cases of one data set; holds its models on the renderer.

    template_size: px of the template crops that the matches refer to.
    """

    def __init__(self, tested: TestedSet, models: dict[int, EvalModel], *, template_size: int):
        self._tested, self._size = tested, template_size
        self._renderer = Renderer()
        self._meshes = {obj_id: _mesh(model) for obj_id, model in models.items()}
        self._templates: dict[int, Templates] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self._renderer.close()

    def draw(self, case: Case) -> CasePictures:
        rgb = read_image(image_path(case.image.scene_dir, case.image.im_id)).permute(1, 2, 0).numpy()
        mesh, estimate = self._meshes[case.obj_id], case.estimate
        poses = [case.truth] + ([estimate.cam_from_obj] if estimate else [])
        window = _window(mesh, poses, case.image.K, rgb.shape[:2])
        scale = SIDE / max(window[2] - window[0], window[3] - window[1])
        template, points, error = None, (), None
        if estimate and estimate.details:
            view = self._template(case.obj_id, estimate.details.template)
            matches = np.array(estimate.details.matches).reshape(-1, 4)
            points = _points(estimate.details.matches, window, scale)
            if view is not None:
                crop = np.uint8(np.round(255 * view.rgb[0].permute(1, 2, 0).numpy()))
                template = Picture(_jpeg(crop), self._size, self._size)
                error = match_error(matches, view, case.image.K, case.truth)
        outlines = [self._outline(mesh, pose, case.image.K, window, scale) for pose in poses]
        return CasePictures(
            photo=_photo(rgb, window, scale),
            true_outline=outlines[0],
            outline=outlines[1] if estimate else None,
            template=template,
            points=points,
            match_error=error,
        )

    def _outline(
        self, mesh: Mesh, pose: np.ndarray, K: np.ndarray, window: Sequence[int], scale: float
    ) -> str:
        """The silhouette's outline as SVG path data; empty where nothing is seen."""
        if not np.isfinite(pose).all():
            return ""
        left, top, right, bottom = window
        crop = np.array(
            [
                [scale, 0, scale * (0.5 - left) - 0.5],
                [0, scale, scale * (0.5 - top) - 0.5],
                [0, 0, 1],
            ]
        )
        cam_from_obj = np.eye(4)
        cam_from_obj[:3] = pose
        cam_from_obj[:3, 3] /= 1000  # mm to m
        size = round(scale * (right - left)), round(scale * (bottom - top))
        mask = self._renderer.render_depth(mesh, cam_from_obj, crop @ K, *size) > 0
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        return "".join(map(_path, contours))

    def _template(self, obj_id: int, view: int) -> View | None:
        """The template (1, ...); None where it is not there any more."""
        try:
            if obj_id not in self._templates:
                name = f"{obj_id:06d}"
                self._templates[obj_id] = Templates(self._tested.templates, self._tested.name, name)
            if not 0 <= view < len(self._templates[obj_id]):
                return None
            return self._templates[obj_id].read(self._size, [view])
        except InputError:
            return None


def match_error(matches: np.ndarray, template: View, K: np.ndarray, truth: np.ndarray) -> float | None:
    """End-point error (px of the photo) of the matches that an estimate rests on; None without any.

    matches (N, 4) px of the photo and of the template (1, ...); K (3, 3) of the photo; truth (3, 4) mm. The
    pose of a symmetric object may be right although its matches, to an equivalent pose, are far off.
    """
    if len(matches) == 0:
        return None
    xy = torch.from_numpy(matches[None, :, 2:]).float()
    depth = sample_depth(template.depth, xy)
    xyz = transform(invert(template.cam_from_obj), unproject(template.K, xy, depth))
    weight = (depth > 0).double().numpy()
    error = end_point_error(matches[None, :, :2], 1000 * xyz.double().numpy(), weight, K[None], truth[None])
    return float(error[0]) if np.isfinite(error[0]) else None


def _mesh(model: EvalModel) -> Mesh:
    vertices = np.float32(model.vertices / 1000)  # mm to m
    return Mesh(vertices, model.faces, normals=np.zeros_like(vertices))


def _window(
    mesh: Mesh, poses: Sequence[np.ndarray], K: np.ndarray, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom in px of the part of an image of size (H, W) that holds all poses' objects.

    Square where the image allows; the whole image if nothing is in it.
    """
    height, width = size
    low, high = np.array([width, height], float), np.zeros(2)
    for pose in poses:
        cam = 1000 * mesh.vertices @ pose[:, :3].T + pose[:, 3]
        if not np.isfinite(cam).all() or cam[:, 2].min() <= 0:
            continue
        xy = cam @ K[:2].T / cam[:, 2:]
        if (xy.max(axis=0) > 0).all() and (xy.min(axis=0) < (width, height)).all():
            low, high = np.minimum(low, xy.min(axis=0)), np.maximum(high, xy.max(axis=0))
    low, high = np.clip(low, 0, (width, height)), np.clip(high, 0, (width, height))
    if (low >= high).any():
        return 0, 0, width, height
    side = max(_MIN_WINDOW, (1 + 2 * _MARGIN) * (high - low).max())
    extent = np.minimum(round(side), (width, height)).astype(int)
    corner = np.clip(np.round((low + high - extent) / 2), 0, np.array([width, height]) - extent).astype(int)
    return *corner.tolist(), *(corner + extent).tolist()


def _photo(rgb: np.ndarray, window: Sequence[int], scale: float) -> Picture:
    left, top, right, bottom = window
    part = rgb[top:bottom, left:right]
    width, height = scale * (right - left), scale * (bottom - top)
    if scale < 1:
        part = cv2.resize(part, (round(width), round(height)), interpolation=cv2.INTER_AREA)
    return Picture(_jpeg(part), round(width, 1), round(height, 1))


def _jpeg(rgb: np.ndarray) -> str:
    options = (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1)
    _, content = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode("ascii")


def _path(contour: np.ndarray) -> str:
    corners = cv2.approxPolyDP(contour, 0.6, closed=True)[:, 0] + 0.5
    return "M" + " ".join(f"{x:g},{y:g}" for x, y in corners.tolist()) + "Z"


def _points(
    matches: Sequence[tuple[float, float, float, float]], window: Sequence[int], scale: float
) -> tuple[Point, ...]:
    """Coloured by where they are in the template: the hue goes round, light ones are in the middle."""
    if not matches:
        return ()
    values = np.array(matches)
    photo = scale * (values[:, :2] - window[:2] + 0.5)
    template = values[:, 2:] + 0.5
    offset = template - template.mean(axis=0)
    angle = np.arctan2(offset[:, 1], offset[:, 0]) / (2 * np.pi) % 1
    radius = np.linalg.norm(offset, axis=1)
    lightness = 0.78 - 0.28 * radius / max(radius.max(), 1e-9)
    colours = [colorsys.hls_to_rgb(h, v, 0.9) for h, v in zip(angle, lightness, strict=True)]
    return tuple(
        Point(tuple(np.round(p, 1).tolist()), tuple(np.round(t, 1).tolist()), _hex(c))
        for p, t, c in zip(photo, template, colours, strict=True)
    )


def _hex(colour: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * value):02x}" for value in colour)
