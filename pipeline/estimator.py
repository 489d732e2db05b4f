"""From a mesh and a photo to poses in a few lines of Python: the whole program behind one class.

`PoseEstimator().add_object("mug.ply").estimate("photo.jpg", K, boxes=[(384, 234, 522, 455)])`

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
from PIL import Image
from scipy.spatial.transform import Rotation
from torch import Tensor

from picopose.datasets.bop.objects import read_symmetry
from picopose.datasets.cameras.matrices import camera_matrix, check_camera
from picopose.datasets.images import photo_of, read_image
from picopose.datasets.masks.regions import box_mask
from picopose.model.checkpoint import read_checkpoint
from picopose.model.methods import make_stages, stage_names
from picopose.model.picopose.released import is_released
from picopose.model.stage import Setup, Thing, Things
from picopose.pipeline.run import run
from picopose.rendering.mesh import Mesh, bounding_sphere, diameter, read_mesh, to_metres
from picopose.rendering.mesh_templates import MeshTemplates, Progress
from picopose.rendering.mesh_views import MeshViews
from picopose.rendering.units import check_plausible, describe, guess_unit
from picopose.utils.config import Config, load_config
from picopose.utils.crop import crop_from_image
from picopose.utils.device import choose_device
from picopose.utils.errors import InputError
from picopose.utils.geometry import transform
from picopose.utils.home import cache_dir, own_file
from picopose.utils.masks import boxes_of, cut_out
from picopose.utils.records import Estimates, Frame, Mask
from picopose.utils.stopwatch import Stopwatch
from picopose.utils.symmetry import Symmetry, parse_symmetry

LOG = logging.getLogger(__name__)
DEFAULT_CONFIG = "config/default.yaml"
DRAWN_ABOUT, DRAWN_PX = 1.2, 256  # side of the picture of a drawing, in longer sides of the box, and in px

Photo = Path | str | Image.Image | np.ndarray  # an array is (H, W, 3) uint8, RGB


@dataclass(frozen=True, eq=False)
class ObjectPose:
    """Where an object is in a photo."""

    name: str  # of the object
    cam_from_obj: np.ndarray  # (4, 4) float64, m: camera (x right, y down, z forward) from the mesh's frame
    confidence: float  # in [0, 1]: probability that it is right, to a tenth of the object's diameter
    inlier_ratio: float  # in [0, 1]: share of the correspondences that agree; 0 if none were solved
    template: int  # index of the view that it starts from among the object's
    matches: np.ndarray  # (M, 4) px, of some that agree: x, y in the photo, x, y in `PoseEstimator.compared`
    box: np.ndarray  # (4,) px: left, top, right, bottom of where it was looked for

    @property
    def quaternion_xyzw(self) -> np.ndarray:
        """The rotation (4,) as a unit quaternion, scalar last."""
        return Rotation.from_matrix(self.cam_from_obj[:3, :3]).as_quat(canonical=True)


@dataclass(frozen=True, eq=False, kw_only=True)
class PreparedObject(Thing):
    """An object that can be looked for."""

    mesh: Mesh  # m, in the frame of its file
    unit: str | float  # that the file was read in
    centre: np.ndarray  # (3,) m: the templates' origin; so the poses do not depend on the mesh's


class PoseEstimator:
    """Finds objects that it has meshes of in photos.

    Args:
        weights: a checkpoint: one trained here, or the one released by the paper's authors; None for the
            default method, which needs none.
        config: YAML file, also one of the program's own; None takes `config/default.yaml`, with weights
            the network that they say they were trained with, or the paper's.
        device: None for a GPU if there is one.
        log_dir: below it prepared templates are kept; relative to the repository or, installed, to the user's
            cache (`~/.cache/picopose`); `log` by default.
        overrides: `key=value` entries of the configuration, such as `test.hypotheses=1`.

    Raises:
        InputError: a file is missing or of the wrong kind; so do the methods. Its message is one line that
            names the file or the option and the remedy.
    """

    def __init__(
        self,
        weights: Path | str | None = None,
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
        self._stages = make_stages(stage_names(self.config), Setup(self.config, device, self.stopwatch))
        self._added = 0
        self._centred: dict[int, Mesh] = {}
        self._by_id: dict[int, PreparedObject] = {}
        self._drawings = MeshViews(self._centred)
        self._templates = MeshTemplates(self._centred, self.config.test.views, self.config.model.size)
        self._things = Things(self._by_id, self._drawings, self._templates)

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
            mesh: PLY, OBJ, glTF, STL or OFF file, with or without colours; or a mesh in metres.
            name: by default the file's, without its suffix; the same name again replaces the object.
            unit: "mm", "cm", "m" or the metres of a unit; "auto" guesses it from the size and says so.
            symmetry: such as `z` (turns freely about z), `z4` (quarter turns) or `z,x2` (a cylinder), about
                the object's centre; `none`; None looks for `models_info.json` (BOP) beside the mesh.
            progress: called with the numbers of views that are drawn and of all.
        """
        where, file = (str(mesh), Path(mesh)) if isinstance(mesh, Path | str) else ("mesh", None)
        loaded, unit = (mesh, "m") if file is None else _load(file, unit)
        name = name or (file.stem if file else f"object {self._added}")
        centre = bounding_sphere(loaded.vertices)[0]
        if isinstance(symmetry, str):
            symmetry = parse_symmetry(symmetry, centre)
        elif symmetry is None and file is not None:
            symmetry = read_symmetry(file)
        size = diameter(loaded.vertices)
        added = PreparedObject(self._added, name, size, symmetry, mesh=loaded, unit=unit, centre=centre)
        LOG.info("%s: %s", where, describe(added.diameter, unit))
        self._added += 1  # an index is never that of two meshes, even where preparing one fails
        self._prepare(added, progress)
        if name in self.objects:
            self.remove_object(name)
        self.objects[name] = added
        return self

    def remove_object(self, name: str) -> None:
        """Forgets an object, and all that memory holds of it; what was prepared of it stays on disk."""
        if name not in self.objects:
            raise InputError(f"no object named {name}: there are {', '.join(self.objects) or 'none'}")
        self._forget(self.objects.pop(name))

    def _prepare(self, added: PreparedObject, progress: Progress | None) -> None:
        """Makes the stages ready for an object, or leaves no trace of it."""
        centred = added.mesh.vertices - np.float32(added.centre)
        self._centred[added.id] = replace(added.mesh, vertices=centred)
        self._by_id[added.id] = added
        self._drawings.progress = self._templates.progress = progress
        try:
            with self.stopwatch("prepare the objects"):
                for stage in self._stages:
                    stage.prepare(self._things)
        except BaseException:
            self._forget(added)
            raise
        finally:
            self._drawings.progress = self._templates.progress = None

    def _forget(self, removed: PreparedObject) -> None:
        for stage in self._stages:
            stage.forget(removed.id)
        self._drawings.forget(removed.id)
        del self._by_id[removed.id], self._centred[removed.id]

    def estimate(
        self,
        image: Photo,
        K: ArrayLike,
        boxes: Sequence[Sequence[float]] | None = None,
        masks: Sequence[Mask | ArrayLike] | None = None,
        objects: Sequence[str] | None = None,
        *,
        last: Sequence[ObjectPose] = (),
        cropped: bool = False,
    ) -> list[ObjectPose]:
        """Poses of the objects in a photo, one for each box or mask, in their order.

        Args:
            image: a file, a PIL image, or (H, W, 3) uint8 RGB.
            K: (3, 3) camera; the centre of the top-left pixel is (0, 0).
            boxes: (left, top, right, bottom) px each; masks: (H, W) each, true on the object. With neither
                every object is looked for in the whole photo, which works only where it fills the photo.
            objects: the name for each box or mask. By default they pair in order where there are as many
                places as objects; otherwise the object of the most confident pose is taken.
            last: poses of the frame before; an object with symmetries gets the pose nearest to its last one,
                otherwise a canonical one.
            cropped: the photo is cut out of a larger one, so that the principal point may lie far from its
                middle; otherwise such a K is refused as another photo's.
        """
        pixels = _pixels(image)
        height, width = pixels.shape[1:]
        camera = _camera(K)
        check_camera(camera, width, height, "K", cropped=cropped)
        places = _places(boxes, masks, height, width)
        tried = self._tried(objects, places)
        if places is None:
            LOG.warning("no box and no mask: looking at the whole photo, which the object should fill")
            places = [box_mask((0, 0, width, height), height, width)] * len(tried)
            tried = [(place, obj) for place, (_, obj) in enumerate(tried)]
        if not tried:
            return []
        boxes_px = boxes_of(places).tolist()
        for place, obj in tried:
            check_plausible(obj.name, obj.diameter, obj.unit, boxes_px[place], camera.tolist())
        start = Estimates.of([obj.id for _, obj in tried], [places[place] for place, _ in tried])
        found = self._run(Frame(pixels, camera), start)
        poses = [_pose(found, i, obj, boxes_px[place]) for i, (place, obj) in enumerate(tried)]
        best = [
            max(_of_place(poses, tried, place), key=lambda pose: pose.confidence)
            for place in range(len(places))
        ]
        return [self._choose_equivalent(pose, last) for pose in best]

    def _run(self, frame: Frame, start: Estimates) -> Estimates:
        """What the stages find in one photo."""
        results: list[Estimates] = []
        run([frame], self._things, self._stages, lambda *_: start, lambda _, found, __: results.append(found))
        return results[0]

    def compared(self, pose: ObjectPose, K: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """What the photo with camera K (3, 3) was compared with for a pose, and the matches in it.

        It is the template, or else the object drawn at its pose.

        Returns:
            picture (S, S, 3) uint8, and the second points of `pose.matches` (M, 2) in its pixels.
        """
        index = self.objects[pose.name].id
        template = self._stages[0].template(index, pose.template)
        if template is not None:
            return _as_picture(template.rgb), pose.matches[:, 2:]
        middle, side = (pose.box[:2] + pose.box[2:]) / 2, DRAWN_ABOUT * (pose.box[2:] - pose.box[:2]).max()
        window = torch.from_numpy(np.concatenate([middle - side / 2, middle + side / 2]))
        picture_from_photo = crop_from_image(window[None], DRAWN_PX)[0].double()
        camera = picture_from_photo @ torch.as_tensor(np.asarray(K, dtype=np.float64))
        cam_from_centre = pose.cam_from_obj.copy()
        cam_from_centre[:3, 3] += pose.cam_from_obj[:3, :3] @ self.objects[pose.name].centre
        drawn = self._drawings.draw([index], torch.from_numpy(cam_from_centre)[None], camera[None], DRAWN_PX)
        points = transform(picture_from_photo, torch.from_numpy(pose.matches[:, 2:]))
        return _as_picture(drawn.rgb[0]), points.numpy()

    def _tried(
        self, names: Sequence[str] | None, places: list[Mask] | None
    ) -> list[tuple[int, PreparedObject]]:
        """Which objects are looked for at which places."""
        if not self.objects:
            raise InputError("no object to look for: add one with add_object(mesh)")
        if unknown := set(names or ()) - self.objects.keys():
            raise InputError(f"no object named {unknown.pop()}: choose among {', '.join(self.objects)}")
        if places is None:
            return [(0, self.objects[name]) for name in names or self.objects]
        if names is None and len(places) == len(self.objects):
            return list(enumerate(self.objects.values()))
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


def _trained_with(weights: Path) -> str | None:
    """The configuration in a checkpoint; None for the released one, which is of the paper's."""
    content = read_checkpoint(own_file(weights))
    if "config" not in content and not is_released(content):
        raise InputError(f"{weights}: does not say of which network it is; give its config")
    return content.get("config")


def _configuration(
    weights: Path | str | None,
    config: Path | str | None,
    log_dir: Path | str | None,
    overrides: Sequence[str],
) -> Config:
    flags = {"checkpoint": weights and str(weights), "log_dir": log_dir and str(log_dir)}
    trained_with = None
    if config is None:
        trained_with = _trained_with(Path(weights)) if weights else None
        config = "config/base.yaml" if weights else DEFAULT_CONFIG
    found = load_config(config, overrides, flags, trained_with=trained_with)
    # What is prepared in one folder is found from any other.
    return replace(found, log_dir=str(cache_dir() / found.log_dir))


def _load(file: Path, unit: str | float) -> tuple[Mesh, str | float]:
    """The mesh of a file in metres, and the unit that it was read in."""
    mesh = read_mesh(file)
    if unit == "auto":
        unit = guess_unit(diameter(mesh.vertices))
    return to_metres(mesh, unit, where=str(file)), unit


def _pixels(image: Photo) -> Tensor:
    """(3, H, W) uint8 RGB."""
    if isinstance(image, Path | str):
        return read_image(image, upright=True)
    if isinstance(image, Image.Image):
        image = photo_of(image)
    if not isinstance(image, np.ndarray):
        raise InputError(f"image of type {type(image).__name__}: give a file, a PIL image or an array")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputError(f"image of {image.dtype} and shape {image.shape}: give (H, W, 3) uint8, RGB")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _places(
    boxes: Sequence[Sequence[float]] | None,
    masks: Sequence[Mask | ArrayLike] | None,
    height: int,
    width: int,
) -> list[Mask] | None:
    """The places to look at; None where nothing is given."""
    if boxes is not None and masks is not None:
        raise InputError("boxes and masks given: pass one of them")
    if boxes is None and masks is None:
        return None
    if boxes is not None:
        return [box_mask(box, height, width) for box in boxes]
    return [mask if isinstance(mask, Mask) else _mask(mask, height, width) for mask in masks]


def _mask(given: ArrayLike, height: int, width: int) -> Mask:
    pixels = torch.as_tensor(np.asarray(given) != 0)
    if pixels.shape != (height, width) or not pixels.any():
        raise InputError(
            f"a mask of shape {tuple(pixels.shape)}, {int(pixels.sum())} px set, for a photo of "
            f"{height}x{width}: give one of the photo's shape that is true on the object"
        )
    return cut_out(pixels)


def _camera(K: ArrayLike) -> Tensor:
    """(3, 3) of an array, a tensor or rows of numbers."""
    try:
        numbers = K.detach().cpu().double() if isinstance(K, Tensor) else np.array(K, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"K of type {type(K).__name__} holds no numbers: give (3, 3)") from None
    if numbers.shape not in ((3, 3), (9,)):
        raise InputError(f"K of shape {tuple(numbers.shape)}: give (3, 3)")
    return camera_matrix(numbers.flatten().tolist(), "K")


def _pose(found: Estimates, index: int, obj: PreparedObject, box: list[float]) -> ObjectPose:
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
        confidence=float(found.confidence[index]),
        inlier_ratio=float(found.inlier_ratio[index]),
        template=int(found.view[index]),
        matches=points.double().numpy(),
        box=np.array(box, dtype=np.float64),
    )


def _of_place(
    poses: list[ObjectPose], tried: list[tuple[int, PreparedObject]], place: int
) -> list[ObjectPose]:
    return [pose for pose, (where, _) in zip(poses, tried, strict=True) if where == place]


def _as_picture(rgb: Tensor) -> np.ndarray:
    """(H, W, 3) uint8 of colours (3, H, W) in [0, 1]."""
    return (255 * rgb).round().byte().permute(1, 2, 0).cpu().numpy()
