"""From a mesh and a photo to poses in a few lines of Python: the whole program in one class.

`PoseEstimator().add_object("mug.ply").estimate("photo.jpg", K, boxes=[(384, 234, 522, 455)])`
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from picopose.model.checkpoint import read_checkpoint
from picopose.model.methods import (
    check_poses_are_found,
    detects,
    find_module,
    make_stages,
    of_categories,
    stage_names,
)
from picopose.model.picopose.released import is_released
from picopose.model.stage import Setup, Stage, Things
from picopose.pipeline.conversions import AnyMask, Photo, as_camera, as_device, as_frame, as_masks, as_photo
from picopose.pipeline.identity import identify, identifying_stages, rivals_of
from picopose.pipeline.object_pose import ObjectPose
from picopose.pipeline.prepared_object import (
    AnyMesh,
    PreparedObject,
    find_object,
    object_pose,
    pair,
    read_object,
)
from picopose.pipeline.run import run_judged
from picopose.pipeline.starts import regions_of
from picopose.pipeline.track.tracker import Tracker
from picopose.pipeline.verdict import OUTLINES
from picopose.rendering.mesh import Mesh
from picopose.rendering.mesh_templates import MeshTemplates, Progress
from picopose.rendering.mesh_views import MeshViews
from picopose.rendering.overlay import draw_pose
from picopose.rendering.units import check_plausible
from picopose.utils.config import Config
from picopose.utils.config_files import load_config
from picopose.utils.crop import crop_from_image
from picopose.utils.downloads import weights_file
from picopose.utils.errors import InputError
from picopose.utils.geometry import transform
from picopose.utils.home import cache_dir
from picopose.utils.masks import boxes_of
from picopose.utils.records import Estimates, Frame, Mask
from picopose.utils.stopwatch import Stopwatch
from picopose.utils.symmetry import Symmetry

LOG = logging.getLogger(__name__)
DEFAULT_CONFIG = "config/default.yaml"
DRAWN_ABOUT, DRAWN_PX = 1.2, 256  # side of the picture of a drawing: in longer sides of the box, and in px
FOLLOWING = ("follow",)  # stages that follow objects through a video
DETECTOR = "detect"  # stage that looks for objects where no boxes or masks are given
PRESENT = 0.5  # least probability of a detection that is reported


class PoseEstimator:
    """Finds objects in photos, given their meshes.

    Args:
        weights: a checkpoint: one trained here, or the one released by the paper's authors (`picopose`, once
            downloaded by that name); None for the default method, which comes with its own.
        config: YAML file, such as `config/lite.yaml` of the program's own. None: without weights
            `config/default.yaml`, with weights the network that they were trained with, or the paper's.
        device: None for a GPU if there is one.
        log_dir: folder for prepared templates; relative to the repository or, if installed, to the user's
            cache (`~/.cache/picopose`); `log` by default.
        overrides: `key=value` entries of the configuration, such as `test.hypotheses=1`.

    Attributes:
        objects: the added objects, by name.

    Raises:
        InputError: a file is missing or of the wrong kind. The methods raise it too. Its message is one line
            that names the file or the option and the remedy.
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
        if of_categories(self.config):
            raise InputError(f"{self.config.method}: finds objects of categories; use CategoryEstimator")
        names = stage_names(self.config)
        check_poses_are_found(names)
        self._setup = Setup(self.config, as_device(device), self.stopwatch)
        self._stages = make_stages(names, self._setup)
        self._detector = self._stages.pop(0) if detects(self.config) else None  # otherwise made when needed
        self._identifying: list[Stage] = []  # made when several objects compete for a place
        self._followers: WeakSet[Stage] = WeakSet()  # of trackers that are in use
        self._added = 0
        self._centred: dict[int, Mesh] = {}
        self._by_id: dict[int, PreparedObject] = {}
        self._drawings = MeshViews(self._centred)
        self._templates = MeshTemplates(self._centred, self.config.test.views, self.config.model.size)
        self._things = Things(self._by_id, self._drawings, self._templates)

    def add_object(
        self,
        mesh: AnyMesh,
        *,
        name: str | None = None,
        unit: str | float = "auto",
        symmetry: str | Symmetry | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Prepares an object: its templates are rendered and kept on disk, or found there by its content.

        Args:
            mesh: PLY, OBJ, glTF, STL or OFF file, with or without colours; a `Mesh`; or the trimesh library's
                `Trimesh` or `Scene`.
            name: by default the file's, without its suffix; the same name again replaces the object.
            unit: "mm", "cm", "m" or the length of a unit in metres; "auto" guesses a file's unit from the
                object's size and logs it, and takes metres for a mesh in memory.
            symmetry: such as `z` (turns freely about z), `z4` (quarter turns) or `z,x2` (a cylinder), about
                the object's centre; or `none`. None looks for `models_info.json` (BOP) beside the mesh.
            progress: called with the number of views drawn so far and the number of all views.
        """
        added = read_object(mesh, self._added, name, unit, symmetry)
        self._added += 1  # an id is never used for two meshes, even if preparing one fails
        self._prepare(added, progress)
        if added.name in self.objects:
            self.remove_object(added.name)
        self.objects[added.name] = added
        return self

    def remove_object(self, name: str) -> None:
        """Removes an object from memory; what was prepared of it stays on disk."""
        self._forget(find_object(self.objects, name))
        del self.objects[name]

    def _prepare(self, added: PreparedObject, progress: Progress | None) -> None:
        """Prepares the stages for an object; if that fails, no trace of it is left."""
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
        for stage in filter(None, [*self._stages, self._detector, *self._identifying, *self._followers]):
            if stage.things is not None:  # otherwise it was never prepared
                stage.forget(removed.id)
        self._drawings.forget(removed.id)
        del self._by_id[removed.id], self._centred[removed.id]

    def estimate(
        self,
        image: Photo,
        K: ArrayLike,
        boxes: ArrayLike | None = None,
        masks: AnyMask | Sequence[AnyMask] | None = None,
        objects: str | Sequence[str | None] | None = None,
        *,
        last: Sequence[ObjectPose] = (),
        cropped: bool = False,
    ) -> list[ObjectPose]:
        """Poses of the objects in a photo, one for each box or mask, in their order.

        Without boxes and masks it looks for the objects itself, and leaves out those it does not find.

        Args:
            image: a file, a PIL image, an array (H, W) or (H, W, C), or a tensor, also (C, H, W); uint8, or
                floats in [0, 1]; RGB, grey or RGBA, whose alpha is ignored.
            K: (3, 3) camera, or fx, fy, cx, cy, in px; the centre of the top-left pixel is (0, 0).
            boxes: one or several (left, top, right, bottom) px.
            masks: one or several, nonzero on the object: files, PIL images, arrays or tensors (H, W). Without
                boxes and masks the objects are detected first, with a pose for each instance found.
            objects: one name for all boxes or masks, or one for each; None where it may be any object. By
                default, boxes or masks and objects pair in order if there are equally many; otherwise each
                may show any object. Of several, the one whose rendering agrees best with the photo is taken.
            last: poses in the previous frame; an object with symmetries gets the equivalent pose nearest to
                its last one, otherwise a canonical one.
            cropped: whether the photo is cut out of a larger one, so that the principal point may lie far
                from its middle; otherwise such a K is refused, as it seems to belong to another photo.
        """
        frame = as_frame(image, K, cropped=cropped)
        places, scores = as_masks(boxes, masks, *frame.rgb.shape[1:]), None
        tried = pair(self.objects, objects, None if places is None else len(places))
        if places is None:
            detected = self._detect(frame, {obj.id for _, obj in tried})
            places, scores = list(detected.mask), detected.score
            tried = [(place, self._by_id[obj_id]) for place, obj_id in enumerate(detected.obj_id.tolist())]
        if not tried:
            return []
        boxes_px = boxes_of(places).tolist()
        for place, obj in tried:
            check_plausible(obj.name, obj.diameter, obj.unit, boxes_px[place], frame.K.tolist())
        tried = self._identified(frame, places, tried)
        start = Estimates.of(
            [obj.id for _, obj in tried], [places[place] for place, _ in tried], score=scores
        )
        found = run_judged(frame, self._things, self._stages, start)
        found = replace(found, confidence=found.total_score)  # lowered where the detection is doubtful
        poses = _best_at_places(found, tried, boxes_px)
        last = [last] if isinstance(last, ObjectPose) else last
        return [self.objects[pose.name].equivalent(pose, last) for pose in poses]

    def _identified(
        self, frame: Frame, places: Sequence[Mask], tried: list[tuple[int, PreparedObject]]
    ) -> list[tuple[int, PreparedObject]]:
        """The pairs of place and object to go on with: one object for each place, see `pair`."""
        rivals = rivals_of(tried)
        if rivals and not self._identifying:
            self._identifying = identifying_stages(self._setup)
        known = {
            place: identify(frame, self._things, self._identifying, places[place], objects)
            for place, objects in rivals.items()
        }
        return [(place, obj) for place, obj in tried if known.get(place, obj.id) == obj.id]

    def _detect(self, frame: Frame, obj_ids: Collection[int]) -> Estimates:
        """Detections of some of the objects; those that are not found are logged."""
        if self._detector is None:
            self._detector = find_module(DETECTOR).make_stage(self._setup)
        with self.stopwatch("prepare the detector"):
            self._detector.prepare(self._things)
        found = regions_of(self._detector(frame, Estimates.of([], [])).to("cpu"), self._detector)
        wanted = torch.tensor([obj_id in obj_ids for obj_id in found.obj_id.tolist()], dtype=torch.bool)
        found = found[wanted & (found.score >= PRESENT)]
        for obj_id in sorted(set(obj_ids) - set(found.obj_id.tolist())):
            LOG.warning("%s is not found; if it is in the photo, give its box", self._by_id[obj_id].name)
        return found

    def track(self, K: ArrayLike, *, following: Sequence[str] = FOLLOWING, cropped: bool = False) -> Tracker:
        """Follows the objects through a video of one camera: start it, then give it frame after frame.

        Args:
            K, cropped: see `estimate`.
            following: names of the stages that refine the last frame's poses in the next one, and judge them;
                the estimator's own stages look for objects that are lost.
        """
        stages = [find_module(name).make_stage(self._setup) for name in following]
        self._followers.update(stages)
        return Tracker(self.objects, self._things, self.estimate, self._stages, stages, K, cropped=cropped)

    def compared(self, pose: ObjectPose, K: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """The picture that a photo with camera K (3, 3) was compared with for a pose, and its matches.

        It shows the template, or the object drawn at its pose.

        Returns:
            picture (S, S, 3) uint8, and the second points of `pose.matches` (M, 2) in its pixels.
        """
        index = find_object(self.objects, pose.name).id
        templates = (stage.template(index, pose.template) for stage in self._stages)
        template = None if pose.drawn else next((found for found in templates if found is not None), None)
        if template is not None:
            return _as_picture(template.rgb), pose.matches[:, 2:]
        middle, side = (pose.box[:2] + pose.box[2:]) / 2, DRAWN_ABOUT * (pose.box[2:] - pose.box[:2]).max()
        window = torch.from_numpy(np.concatenate([middle - side / 2, middle + side / 2]))
        picture_from_photo = crop_from_image(window[None], DRAWN_PX)[0].double()
        camera = picture_from_photo @ as_camera(K)
        cam_from_centre = find_object(self.objects, pose.name).cam_from_centre(pose)
        drawn = self._drawings.draw([index], torch.from_numpy(cam_from_centre)[None], camera[None], DRAWN_PX)
        points = transform(picture_from_photo, torch.from_numpy(pose.matches[:, 2:]))
        return _as_picture(drawn.rgb[0]), points.numpy()

    def draw(self, image: Photo, poses: Sequence[ObjectPose], K: ArrayLike) -> np.ndarray:
        """Draws poses onto a photo: outline, bounding box, axes and confidence of each.

        Outlines are green for good poses, orange for doubtful ones and red for wrong ones; see `estimate` for
        the image and K. Returns (H, W, 3) uint8.
        """
        drawn, camera = as_photo(image), as_camera(K).numpy()
        height, width = drawn.shape[:2]
        for pose in [poses] if isinstance(poses, ObjectPose) else poses:
            obj = find_object(self.objects, pose.name)
            mask = self._drawings.silhouette(obj.id, obj.cam_from_centre(pose), camera, width, height)
            label = f"{pose.name}: {pose.verdict} ({100 * pose.confidence:.0f} %)"
            outline = OUTLINES[pose.verdict]
            drawn = draw_pose(drawn, mask, obj.mesh, pose.cam_from_obj, camera, label, outline)
        return drawn


def _best_at_places(
    found: Estimates, tried: list[tuple[int, PreparedObject]], boxes_px: list[list[float]]
) -> list[ObjectPose]:
    """The most confident pose at each place; `tried` has the place and the object of each group."""
    best: dict[int, ObjectPose] = {}
    for row, group in enumerate(found.group.tolist()):
        place, obj = tried[group]
        pose = object_pose(found, row, obj, boxes_px[place])
        if place not in best or pose.confidence > best[place].confidence:
            best[place] = pose
    if missing := [place for place in range(len(boxes_px)) if place not in best]:
        raise InputError(f"stages: they leave no pose at place {missing[0]}; keep one for each")
    return [best[place] for place in range(len(boxes_px))]


def _trained_with(weights: Path) -> str | None:
    """The configuration in a checkpoint; None for the released one, whose network is the paper's."""
    content = read_checkpoint(weights_file(weights))
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
    # An absolute path, so that prepared templates are found from any working directory.
    return replace(found, log_dir=str(cache_dir() / found.log_dir))


def _as_picture(rgb: Tensor) -> np.ndarray:
    """(H, W, 3) uint8 of colours (3, H, W) in [0, 1]."""
    return (255 * rgb).round().byte().permute(1, 2, 0).cpu().numpy()
