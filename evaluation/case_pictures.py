"""Pictures of single cases for the report: the photo about a target, outlines upon it, and its matches.

Pictures are JPEG files as data URIs; all that is drawn upon them is vectors in the pictures' coordinates, in
which, as in SVG, the top-left pixel covers 0 to 1.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
import torch

from picopose.datasets.images import read_image
from picopose.datasets.layouts import find_meshes
from picopose.datasets.templates import StoredViews
from picopose.evaluation.cases import Case
from picopose.evaluation.errors import end_point_error, homogeneous
from picopose.evaluation.eval_models import EvalModel
from picopose.evaluation.photo_part import SIDE, PhotoPart, Picture, jpeg, part_about, photo_picture
from picopose.pipeline.tested_set import TestedSet
from picopose.rendering.mesh import Mesh
from picopose.rendering.mesh_files import MeshFiles
from picopose.rendering.renderer import Renderer
from picopose.utils.errors import InputError
from picopose.utils.geometry import invert, sample_depth, transform, unproject
from picopose.utils.records import View


@dataclass(frozen=True)
class Point:
    """A match: where it is in the photo's picture and in the one beside it."""

    photo: tuple[float, float]
    beside: tuple[float, float]
    colour: str


@dataclass(frozen=True)
class CasePictures:
    """What is drawn of one case; outlines are SVG path data."""

    photo: Picture
    true_outline: str
    outline: str | None
    beside: Picture | None  # what the photo was matched to: the template, or the object drawn at its pose
    points: tuple[Point, ...]
    match_error: float | None  # px of the photo, see `match_error`; None without matches


class CasePainter:
    """Draws the cases of one data set; holds its models on the renderer.

    template_size: px of the template crops that the matches refer to, in a set with templates.
    """

    def __init__(self, tested: TestedSet, models: dict[int, EvalModel], *, template_size: int):
        self._tested, self._models, self._size = tested, models, template_size
        self._renderer = Renderer()
        self._templates: dict[int, StoredViews] = {}
        self._fine_meshes = _fine_meshes(tested)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self._renderer.close()

    def draw(self, case: Case) -> CasePictures:
        rgb = read_image(case.image.photo_path()).permute(1, 2, 0).numpy()
        mesh, estimate = self._models[case.obj_id].mesh, case.estimate
        poses = [case.truth] + ([estimate.cam_from_obj] if estimate else [])
        frame = part_about(mesh.vertices, poses, case.image.K, rgb.shape[:2], side=SIDE)
        view, matches = self._matched(case, frame)
        outlines = [self._outline(mesh, pose, frame) for pose in poses]
        return CasePictures(
            photo=photo_picture(rgb, frame),
            true_outline=outlines[0],
            outline=outlines[1] if estimate else None,
            beside=None if view is None else _picture(view),
            points=_points(matches, frame),
            match_error=None if view is None else match_error(matches, view, case.image.K, case.truth),
        )

    def _matched(self, case: Case, frame: PhotoPart) -> tuple[View | None, np.ndarray]:
        """What the photo was matched to (1, ...), if it is there, and the matches (N, 4) px of both."""
        estimate = case.estimate
        if estimate is None or estimate.details is None:
            return None, np.zeros((0, 4))
        matches = np.array(estimate.details.matches).reshape(-1, 4)
        if self._tested.templates is not None:
            return self._template(case.obj_id, estimate.details.template), matches
        drawn = self._drawing(case.obj_id, estimate.cam_from_obj, frame)
        return drawn, np.hstack([matches[:, :2], frame.scaled(matches[:, 2:])])

    def _outline(self, mesh: Mesh, pose: np.ndarray, frame: PhotoPart) -> str:
        """The silhouette's outline as SVG path data; empty where nothing is seen."""
        if not np.isfinite(pose).all():
            return ""
        mask = self._renderer.render_depth(mesh, homogeneous(pose), frame.K, *frame.size) > 0
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        return "".join(map(_path, contours))

    def _drawing(self, obj_id: int, pose: np.ndarray, frame: PhotoPart) -> View | None:
        """The object (1, ...) at a pose (3, 4) m as the photo's picture would show it; None if it is out."""
        if not np.isfinite(pose).all():
            return None
        cam_from_obj = homogeneous(pose)
        drawn = self._renderer.render([(self._fine_mesh(obj_id), cam_from_obj)], frame.K, *frame.size)
        if not drawn.mask.any():
            return None
        view = View(
            rgb=torch.from_numpy(drawn.rgb).permute(2, 0, 1) / 255,
            mask=torch.from_numpy(drawn.mask),
            K=torch.from_numpy(frame.K).float(),
            depth=torch.from_numpy(drawn.depth),
            cam_from_obj=torch.from_numpy(cam_from_obj).float(),
        )
        return view[None]

    def _fine_mesh(self, obj_id: int) -> Mesh:
        """With its colours, if the data set's models are there; else as it is scored."""
        try:
            return self._fine_meshes[obj_id]
        except (KeyError, InputError):
            return self._models[obj_id].mesh

    def _template(self, obj_id: int, view: int) -> View | None:
        """The template (1, ...); None where it is not there any more."""
        try:
            if obj_id not in self._templates:
                name = f"{obj_id:06d}"
                self._templates[obj_id] = StoredViews(self._tested.templates, self._tested.name, name)
            if not 0 <= view < len(self._templates[obj_id]):
                return None
            return self._templates[obj_id].read(self._size, [view])
        except InputError:
            return None


def match_error(matches: np.ndarray, view: View, K: np.ndarray, truth: np.ndarray) -> float | None:
    """End-point error (px of the photo) of the matches that an estimate rests on; None without any.

    matches (N, 4) px of the photo and of the view (1, ...), a template or a drawing; K (3, 3) of the photo;
    truth (3, 4) m. The pose of a symmetric object may be right although its matches, to an equivalent pose,
    are far off.
    """
    if len(matches) == 0:
        return None
    xy = torch.from_numpy(matches[None, :, 2:]).float()
    depth = sample_depth(view.depth, xy)
    xyz = transform(invert(view.cam_from_obj), unproject(view.K, xy, depth))
    weight = (depth > 0).double().numpy()
    error = end_point_error(matches[None, :, :2], xyz.double().numpy(), weight, K[None], truth[None])
    return float(error[0]) if np.isfinite(error[0]) else None


def _fine_meshes(tested: TestedSet) -> MeshFiles:
    """The data set's models; none where they are not there."""
    try:
        files = find_meshes(tested.dataset_dir.parent, tested.dataset_dir.name)
    except InputError:
        files = {}
    return MeshFiles({int(name): file for name, file in files.items() if name.isdecimal()})


def _picture(view: View) -> Picture:
    height, width = view.rgb.shape[-2:]
    return Picture(jpeg(np.uint8(np.round(255 * view.rgb[0].permute(1, 2, 0).numpy()))), width, height)


def _path(contour: np.ndarray) -> str:
    corners = cv2.approxPolyDP(contour, 0.6, closed=True)[:, 0] + 0.5
    return "M" + " ".join(f"{x:g},{y:g}" for x, y in corners.tolist()) + "Z"


def _points(matches: np.ndarray, frame: PhotoPart) -> tuple[Point, ...]:
    """Of matches (N, 4) px of the photo and of what it was matched to.

    Coloured by where they are in the latter: the hue goes round, light ones are in the middle.
    """
    if len(matches) == 0:
        return ()
    photo, beside = frame.scaled(matches[:, :2]) + 0.5, matches[:, 2:] + 0.5
    offset = beside - beside.mean(axis=0)
    angle = np.arctan2(offset[:, 1], offset[:, 0]) / (2 * np.pi) % 1
    radius = np.linalg.norm(offset, axis=1)
    lightness = 0.78 - 0.28 * radius / max(radius.max(), 1e-9)
    colours = [colorsys.hls_to_rgb(h, v, 0.9) for h, v in zip(angle, lightness, strict=True)]
    return tuple(
        Point(tuple(np.round(p, 1).tolist()), tuple(np.round(b, 1).tolist()), _hex(c))
        for p, b, c in zip(photo, beside, colours, strict=True)
    )


def _hex(colour: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * value):02x}" for value in colour)
