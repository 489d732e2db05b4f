"""RNNPose as a stage of a run: poses in, better poses out, of those objects that there are networks for."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from picopose.datasets.linemod.classes import names_of
from picopose.model.batches import Batches
from picopose.model.drawn.solving import no_matches, some_matches
from picopose.model.rnnpose import lm
from picopose.model.rnnpose.crops import patch_window
from picopose.model.rnnpose.model_mesh import drawing, model_mesh
from picopose.model.rnnpose.network import Iteration, KnownObject, RNNPose
from picopose.model.rnnpose.options import Options, read_options
from picopose.model.rnnpose.point_pyramid import build_pyramid
from picopose.model.rnnpose.surface import Surface
from picopose.model.rnnpose.weights import Weights, load_network
from picopose.model.stage import Setup, Stage, Step, Thing, Things, check_poses
from picopose.rendering.mesh import Mesh
from picopose.rendering.mesh_views import MeshViews
from picopose.utils.device import use_bf16
from picopose.utils.errors import InputError
from picopose.utils.geometry import cell_centres, invert, transform, upright
from picopose.utils.records import Correspondences, Estimates, Frame
from picopose.utils.stopwatch import Stopwatch

LOG = logging.getLogger(__name__)
BATCH = 4  # poses that go through the network at once


@dataclass(frozen=True, eq=False)
class Known:
    """A network with what it knows of its object."""

    network: RNNPose
    thing: KnownObject


class RnnPoseStage(Stage):
    """Refines poses; those of objects without a network stay as they are.

    Args:
        options: the run's, by which released weights go.
        threshold: px of the photo, off which a pixel's flow does not agree with the pose.
        batch: poses that go through the network at once. bf16: whether it computes in bfloat16.
    """

    def __init__(
        self,
        weights: Weights,
        options: Options,
        device: torch.device,
        *,
        threshold: float,
        batch: int = BATCH,
        bf16: bool = False,
        stopwatch: Stopwatch | None = None,
    ):
        self.weights, self.options, self.device = weights, options, device
        self.threshold, self.batches, self.bf16 = threshold, Batches(batch), bf16
        self.stopwatch = stopwatch or Stopwatch(running=False)

    def open(self, things: Things) -> None:
        if things.drawings is None:
            raise InputError(
                "stages: rnnpose draws the objects, so it needs their meshes; download the models"
            )
        self._meshes: dict[int, Mesh] = {}
        self._views, self._known = MeshViews(self._meshes), {}

    def prepare(self, things: Things) -> None:
        super().prepare(things)
        if things.by_id and not self._known:
            raise InputError(f"{self.weights.path}: for no object of this run; pass weights of one of them")

    def prepare_object(self, obj_id: int) -> None:
        thing = self.things.by_id[obj_id]
        if (known := self._meet(thing)) is None:
            LOG.warning("%s: no weights for %s, whose poses stay as they are", self.weights.path, thing.name)
        else:
            self._known[obj_id] = known

    def forget(self, obj_id: int) -> None:
        super().forget(obj_id)
        if self._known.pop(obj_id, None):
            self._views.forget(obj_id)
            del self._meshes[obj_id]

    @torch.inference_mode()
    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        if len(found) == 0:
            return found
        check_poses(found, "rnnpose")
        frame, found = frame.to(self.device), unjudged(found.to(self.device))
        for obj_id in found.obj_id.unique().tolist():
            if obj_id in self._known:
                found = self._with_object(obj_id, frame, found)
        return found

    def _with_object(self, obj_id: int, frame: Frame, found: Estimates) -> Estimates:
        """Estimates of all objects, with the poses of one refined."""
        rows = (found.obj_id == obj_id).nonzero()[:, 0]
        parts = self.batches.run(lambda part: self._refine(frame, found, rows[part]), len(rows))
        return replaced(found, rows, Estimates.cat(parts))

    def _refine(self, frame: Frame, found: Estimates, rows: Tensor) -> Estimates:
        """The rows (N,), all of one object, after all iterations."""
        found = found[rows]
        known = self._known[int(found.obj_id[0])]
        network, start = known.network, upright(found.cam_from_obj.float())
        with self.stopwatch("crop"):
            patch, K = self._patches(frame, start, known)
        with self.stopwatch("describe"):
            descriptors = network.describe(patch)
        with self.stopwatch("refine"):
            draw = drawing(self._views, int(found.obj_id[0]), network.sizes.zoom)
            for step in network(patch, descriptors, K, start, known.thing, draw):
                last = step
                if self.watch is not None:
                    self.watch(Step(rows, step.cam_from_obj, step.weight, step.seen.K))
            return self._judged(frame, found, last)

    def _patches(self, frame: Frame, poses: Tensor, known: Known) -> tuple[Tensor, Tensor]:
        """Patches (B, 3, P, P) in [0, 1] of the photo about poses (B, 4, 4), and their cameras (B, 3, 3)."""
        image, photo_K = frame.rgb.permute(1, 2, 0).cpu().numpy(), frame.K.cpu().float()
        size, vertices = known.network.sizes.patch, known.thing.surface.vertices.cpu()
        patches, cameras = [], []
        for pose in poses.cpu():
            window = patch_window(vertices, pose, photo_K, *image.shape[:2])
            patches.append(torch.from_numpy(window.cut(image, size)))
            cameras.append(window.camera(photo_K, size, known.network.quirks))
        patch = torch.stack(patches).to(self.device).permute(0, 3, 1, 2).contiguous()
        return patch / 255, torch.stack(cameras).to(self.device)

    def _judged(self, frame: Frame, found: Estimates, last: Iteration) -> Estimates:
        """Estimates at their last poses, and how much of the flow agrees with these.

        A pose that is not finite, or of which nothing is seen, stays as it was.
        """
        K, seen, pose = last.seen.K, last.seen.drawn.seen.flatten(1), last.cam_from_obj
        solved = pose.isfinite().all(dim=2).all(dim=1) & seen.any(dim=1)
        moved = transform(last.motion, last.seen.points)
        size = last.flow.shape[-1]
        target = cell_centres(size, size, K.device) + last.flow.flatten(2).mT
        limit = self.threshold * K[:, 0, 0] / frame.K[0, 0].to(K.dtype)
        weight = last.weight.flatten(1)
        agrees = seen & ((target - lm.project(K, moved)).norm(dim=-1) < limit[:, None])
        agreeing = (weight * agrees).sum(1)
        xyz = transform(invert(last.seen.cam_from_obj), last.seen.points)
        pose = torch.where(solved[:, None, None], pose, found.cam_from_obj.float())
        shown = some_matches(
            Correspondences(target, xyz, weight * seen), agrees, pose.double(), K.double(), frame.K
        )
        return replace(
            found,
            cam_from_obj=pose,
            support=solved * agreeing / seen.sum(1).clamp(min=1),
            inlier_ratio=solved * agreeing / weight.sum(1).clamp(min=1e-9),
            matches=shown,
        )

    def _meet(self, thing: Thing) -> Known | None:
        """The network of an object; None where there is none."""
        path = self.weights.of([*names_of(thing.name), f"obj_{thing.id:06d}", f"{thing.id:06d}"])
        if path is None:
            return None
        network, options = load_network(path, self.options)
        network.bf16 = self.bf16
        if len(self.things.by_id) > 1 and not (self.weights.path.is_dir() or network.knows_its_object):
            raise InputError(
                f"{path}: released weights are of one object, and the run has {len(self.things.by_id)}; pass "
                "a folder with a file for each, ape.tckpt for example"
            )
        mesh = model_mesh(self.things.drawings.mesh(thing.id), options.longest_edge, thing.name)
        surface = Surface.of(mesh)
        if not network.is_of(surface.vertices):
            if self.weights.path.is_dir():
                raise InputError(
                    f"{path}: of another mesh than that of {thing.name}; pass the one it was trained with"
                )
            return None
        self._meshes[thing.id] = mesh
        network, surface = network.to(self.device), surface.to(self.device)
        pyramid = build_pyramid(surface.vertices)
        with torch.inference_mode():
            return Known(network, network.known(surface, pyramid, thing.diameter))


def unjudged(found: Estimates) -> Estimates:
    """Estimates without matches, and with a support and share of inliers of 0 where they have none."""
    nothing = torch.zeros(len(found), device=found.obj_id.device)
    return replace(
        found,
        support=nothing if found.support is None else found.support,
        inlier_ratio=nothing if found.inlier_ratio is None else found.inlier_ratio,
        matches=no_matches(len(found), nothing.device),
    )


def replaced(found: Estimates, rows: Tensor, other: Estimates) -> Estimates:
    """Estimates with the rows (N,) taken from others (N rows)."""
    rest = torch.ones(len(found), dtype=torch.bool, device=rows.device)
    rest[rows] = False
    joined = Estimates.cat([found[rest], other])
    order = torch.cat([rest.nonzero()[:, 0], rows]).argsort()
    return joined[order]


def make_stage(setup: Setup) -> RnnPoseStage:
    config, options = setup.config, read_options(setup.config)
    weights = options.weights or config.checkpoint
    if not weights:
        raise InputError(
            "stages: rnnpose has no weights; pass a checkpoint, or a folder with one for each object"
        )
    return RnnPoseStage(
        Weights(Path(weights)),
        options,
        setup.device,
        threshold=config.test.threshold_px,
        batch=config.runtime.batch or BATCH,
        bf16=use_bf16(config.test.bf16, setup.device),
        stopwatch=setup.stopwatch,
    )
