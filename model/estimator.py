"""From a mesh and a photo to poses in a few lines of Python: the whole program behind one class.

`PoseEstimator(weights).add_object("mug.ply").estimate("photo.jpg", K, boxes=[(384, 234, 522, 455)])`

The one module that stands above data sets, models and rendering alike; scripts and pages are built on it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image, ImageOps
from scipy.spatial.transform import Rotation
from torch import Tensor

from datasets.objects import read_symmetry
from model.factory import make_stage, prepare_network
from rendering.mesh import Mesh, bounding_sphere, diameter, read_mesh, to_metres
from rendering.mesh_templates import MeshTemplates, Progress
from utils.cameras import camera_matrix, check_camera
from utils.checkpoint import read_checkpoint
from utils.config import Config, load_config
from utils.crop import mask_boxes
from utils.device import choose_device
from utils.errors import InputError
from utils.images import read_image
from utils.regions import box_mask
from utils.stopwatch import Stopwatch
from utils.structs import Observation, Poses
from utils.symmetry import Symmetry, parse_symmetry
from utils.units import check_plausible, describe, guess_unit

LOG = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parent.parent
SMALL_WEIGHTS = ROOT / "data" / "weights" / "picopose_small.pt"

Photo = Path | str | Image.Image | np.ndarray  # an array is (H, W, 3) uint8, RGB


@dataclass(frozen=True, eq=False)
class ObjectPose:
    """Where an object is in a photo."""

    name: str  # of the object
    cam_from_obj: np.ndarray  # (4, 4) float64, m: camera (x right, y down, z forward) from the mesh's frame
    score: float  # larger is better
    inlier_ratio: float  # in [0, 1]: share of the correspondences that agree; 0 if none were solved
    template: int  # index of the winning template among the object's views
    matches: np.ndarray  # (M, 4) px: x, y in the photo, x, y in the template, of some that agree
    box: np.ndarray  # (4,) px: left, top, right, bottom of where it was looked for

    @property
    def quaternion_xyzw(self) -> np.ndarray:
        """The rotation (4,) as a unit quaternion, scalar last."""
        return Rotation.from_matrix(self.cam_from_obj[:3, :3]).as_quat(canonical=True)


@dataclass(frozen=True, eq=False)
class PreparedObject:
    """An object that can be looked for."""

    index: int  # of its templates
    name: str
    mesh: Mesh  # m, in the frame of its file
    unit: str | float  # that the file was read in
    diameter: float  # m
    centre: np.ndarray  # (3,) m: the templates' origin; so the poses do not depend on the mesh's
    symmetry: Symmetry | None


class PoseEstimator:
    """Finds objects that it has meshes of in photos.

    Args:
        weights: a checkpoint: one trained here, or the one released by the paper's authors; None for seeded
            random weights, whose poses mean nothing.
        config: YAML file of the network, also relative to the repository; None takes the network that the
            checkpoint says it was trained with, or the paper's.
        device: None for a GPU if there is one.
        log_dir: below it prepared templates are kept; relative to the repository, `log` by default.
        overrides: `key=value` entries of the configuration, such as `test.hypotheses=1`.

    Raises:
        InputError: a file is missing or of the wrong kind; so do the methods. Its message is one line that
            names the file or the option and the remedy.
    """

    def __init__(
        self,
        weights: Path | str | None = SMALL_WEIGHTS,
        *,
        config: Path | str | None = None,
        device: torch.device | str | None = None,
        log_dir: Path | str | None = None,
        overrides: Sequence[str] = (),
    ):
        self.config = _configuration(weights, config, log_dir, overrides)
        self.objects: dict[str, PreparedObject] = {}
        self.stopwatch = Stopwatch(running=False)
        device = choose_device(None) if device is None else torch.device(device)
        network = prepare_network(self.config.model, self.config.checkpoint).to(device)
        self._added = 0
        self._centred: dict[int, Mesh] = {}
        self._source = MeshTemplates(self._centred, self.config.test.views, network.size)
        self._stage = make_stage(network, self._source, self.config, self.stopwatch)

    def add_object(
        self,
        mesh: Path | str | Mesh,
        *,
        name: str | None = None,
        unit: str | float = "auto",
        symmetry: str | Symmetry | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Prepares an object: its templates are rendered and kept on disk, or found there by its content.

        Args:
            mesh: PLY, OBJ, GLB, STL or OFF file, with or without colours; or a mesh in metres.
            name: by default the file's, without its suffix; the same name again replaces the object.
            unit: "mm", "cm", "m" or the metres of a unit; "auto" guesses it from the size and says so.
            symmetry: such as `z` (turns freely about z), `z4` (quarter turns) or `z,x2` (a cylinder), about
                the object's centre; `none`; None looks for `models_info.json` (BOP) beside the mesh.
            progress: called with the numbers of templates that are rendered and of all.
        """
        where, file = (str(mesh), Path(mesh)) if isinstance(mesh, Path | str) else ("mesh", None)
        loaded, unit = (mesh, "m") if file is None else _load(file, unit)
        name = name or (file.stem if file else f"object {self._added}")
        centre = bounding_sphere(loaded.vertices)[0]
        if isinstance(symmetry, str):
            symmetry = parse_symmetry(symmetry, centre)
        elif symmetry is None and file is not None:
            symmetry = read_symmetry(file)
        added = PreparedObject(self._added, name, loaded, unit, diameter(loaded.vertices), centre, symmetry)
        LOG.info("%s: %s", where, describe(added.diameter, unit))
        self._centred[added.index] = replace(loaded, vertices=loaded.vertices - np.float32(centre))
        self._source.progress = progress
        with self.stopwatch("prepare the objects"):
            self._stage.onboard([added.index])
        if name in self.objects:
            self.remove_object(name)
        self.objects[name] = added
        self._added += 1
        return self

    def remove_object(self, name: str) -> None:
        """Forgets an object; what was prepared of it stays on disk."""
        del self._centred[self.objects.pop(name).index]

    def estimate(
        self,
        image: Photo,
        K: ArrayLike,
        boxes: Sequence[Sequence[float]] | None = None,
        masks: Sequence[ArrayLike] | None = None,
        objects: Sequence[str] | None = None,
        *,
        last: Sequence[ObjectPose] = (),
    ) -> list[ObjectPose]:
        """Poses of the objects in a photo, one for each box or mask, in their order.

        Args:
            image: a file, a PIL image, or (H, W, 3) uint8 RGB.
            K: (3, 3) camera; the centre of the top-left pixel is (0, 0).
            boxes: (left, top, right, bottom) px each; masks: (H, W) each, true on the object. With neither
                every object is looked for in the whole photo, which works only where it fills the photo.
            objects: the name for each box or mask; by default the object that fits best is taken.
            last: poses of the frame before; an object with symmetries gets the pose nearest to its last one,
                otherwise a canonical one.
        """
        pixels = _pixels(image)
        height, width = pixels.shape[1:]
        camera = camera_matrix(np.asarray(K, dtype=np.float64).flatten().tolist(), "K")
        check_camera(camera, width, height, "K")
        places = _places(boxes, masks, height, width)
        tried = self._tried(objects, places)
        if places is None:
            LOG.warning("no box and no mask: looking at the whole photo, which the object should fill")
            places = torch.ones(len(tried), height, width, dtype=torch.bool)
            tried = [(place, obj) for place, (_, obj) in enumerate(tried)]
        if not tried:
            return []
        boxes_px = mask_boxes(places).tolist()
        for place, obj in tried:
            check_plausible(obj.name, obj.diameter, obj.unit, boxes_px[place], camera.tolist())
        owners = torch.tensor([place for place, _ in tried])
        found = self._stage.predict(
            Observation(
                image=pixels,
                K=camera,
                obj_ids=torch.tensor([obj.index for _, obj in tried]),
                masks=places[owners],
                boxes=torch.tensor(boxes_px)[owners],
                scores=torch.ones(len(tried)),
                scene_id=0,
                im_id=0,
                seconds=0.0,
            )
        ).to("cpu")
        poses = [_pose(found, i, obj, boxes_px[place]) for i, (place, obj) in enumerate(tried)]
        best = [
            max(_of_place(poses, tried, place), key=lambda pose: pose.score) for place in range(len(places))
        ]
        return [self._choose_equivalent(pose, last) for pose in best]

    def template_picture(self, pose: ObjectPose) -> np.ndarray:
        """The template (S, S, 3) uint8 that a pose was found with; `pose.matches` are in its pixels."""
        view = self._stage.templates.templates([self.objects[pose.name].index], [pose.template]).view
        return (255 * view.rgb[0]).round().byte().permute(1, 2, 0).cpu().numpy()

    def _tried(self, names: Sequence[str] | None, places: Tensor | None) -> list[tuple[int, PreparedObject]]:
        """Which objects are looked for at which places."""
        if not self.objects:
            raise InputError("no object to look for: add one with add_object(mesh)")
        if unknown := set(names or ()) - self.objects.keys():
            raise InputError(f"no object named {unknown.pop()}: choose among {', '.join(self.objects)}")
        if places is None:
            return [(0, self.objects[name]) for name in names or self.objects]
        if names is None:
            return [(i, obj) for i in range(len(places)) for obj in self.objects.values()]
        if len(names) != len(places):
            raise InputError(f"{len(names)} objects for {len(places)} places: name one for each box or mask")
        return [(i, self.objects[name]) for i, name in enumerate(names)]

    def _choose_equivalent(self, pose: ObjectPose, last: Sequence[ObjectPose]) -> ObjectPose:
        symmetry = self.objects[pose.name].symmetry
        if symmetry is None:
            return pose
        before = [other.cam_from_obj for other in last if other.name == pose.name]
        if not before:
            return replace(pose, cam_from_obj=symmetry.canonical(pose.cam_from_obj))
        centre = np.append(self.objects[pose.name].centre, 1)  # where it is, whichever equivalent is told
        nearest = min(before, key=lambda other: np.linalg.norm((other - pose.cam_from_obj) @ centre))
        return replace(pose, cam_from_obj=symmetry.nearest(pose.cam_from_obj, nearest))


def _configuration(
    weights: Path | str | None,
    config: Path | str | None,
    log_dir: Path | str | None,
    overrides: Sequence[str],
) -> Config:
    flags = {"checkpoint": weights and str(weights), "log_dir": log_dir and str(log_dir)}
    trained_with = None
    if config is None:
        trained_with = read_checkpoint(Path(weights)).get("config") if weights else None
        config = "config/base.yaml" if weights else "config/small.yaml"
    path = Path(config)
    found = load_config(path if path.is_file() else ROOT / path, overrides, flags, trained_with=trained_with)
    # What is prepared in one folder is found from any other.
    return replace(found, log_dir=str(ROOT / found.log_dir))


def _load(file: Path, unit: str | float) -> tuple[Mesh, str | float]:
    """The mesh of a file in metres, and the unit that it was read in."""
    mesh = read_mesh(file)
    if unit == "auto":
        unit = guess_unit(diameter(mesh.vertices))
    return to_metres(mesh, unit, where=str(file)), unit


def _pixels(image: Photo) -> Tensor:
    """(3, H, W) uint8 RGB."""
    if isinstance(image, Path | str):
        return read_image(image)
    if isinstance(image, Image.Image):
        image = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"image of {image.dtype} and shape {image.shape}: give (H, W, 3) uint8, RGB")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _places(
    boxes: Sequence[Sequence[float]] | None, masks: Sequence[ArrayLike] | None, height: int, width: int
) -> Tensor | None:
    """Masks (B, H, W) bool; None where nothing is given."""
    if boxes is not None and masks is not None:
        raise InputError("boxes and masks given: pass one of them")
    if boxes is None and masks is None:
        return None
    if boxes is not None:
        places = [box_mask(box, height, width) for box in boxes]
    else:
        places = [torch.as_tensor(np.asarray(mask) != 0) for mask in masks]
    for place in places:
        if place.shape != (height, width) or not place.any():
            raise InputError(
                f"a mask of shape {tuple(place.shape)}, {int(place.sum())} px set, for a photo of "
                f"{height}x{width}: give one of the photo's shape that is true on the object"
            )
    return torch.stack(places) if places else torch.zeros(0, height, width, dtype=torch.bool)


def _pose(found: Poses, index: int, obj: PreparedObject, box: list[float]) -> ObjectPose:
    """One estimate, in the frame of the object's file."""
    cam_from_centre = found.cam_from_obj[index].double().numpy()
    centre_from_obj = np.eye(4)
    centre_from_obj[:3, 3] = -obj.centre
    matches = found.matches
    points = torch.zeros(0, 4)
    if matches is not None:
        points = torch.cat([matches.photo[index], matches.template[index]], dim=1)
        points = points[matches.weight[index] > 0]
    return ObjectPose(
        name=obj.name,
        cam_from_obj=cam_from_centre @ centre_from_obj,
        score=float(found.score[index]),
        inlier_ratio=float(found.inlier_ratio[index]),
        template=int(found.template[index]),
        matches=points.double().numpy(),
        box=np.array(box, dtype=np.float64),
    )


def _of_place(
    poses: list[ObjectPose], tried: list[tuple[int, PreparedObject]], place: int
) -> list[ObjectPose]:
    return [pose for pose, (where, _) in zip(poses, tried, strict=True) if where == place]
