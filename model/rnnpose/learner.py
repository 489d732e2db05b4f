"""How RNNPose learns: one network for one object, from poses that are wrong on purpose."""

import logging
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from picopose.datasets.training.loader import Source
from picopose.model.checkpoint import fit
from picopose.model.rnnpose import losses, pictures
from picopose.model.rnnpose.model_mesh import drawing, model_mesh
from picopose.model.rnnpose.network import Iteration, KnownObject, RNNPose
from picopose.model.rnnpose.options import Options, read_options
from picopose.model.rnnpose.photos import model_file, training_photos
from picopose.model.rnnpose.point_pyramid import build_pyramid
from picopose.model.rnnpose.samples import Pairs, PoseNoise, Sample, Samples
from picopose.model.rnnpose.surface import Surface
from picopose.model.rnnpose.weights import load_network
from picopose.rendering.mesh import Mesh, diameter, load_mesh
from picopose.rendering.mesh_views import MeshViews
from picopose.rendering.units import UNITS, guess_unit
from picopose.utils.config import Config, unread_entries
from picopose.utils.device import use_bf16
from picopose.utils.errors import InputError
from picopose.utils.geometry import rotation_angle, transform

LOG = logging.getLogger(__name__)
OBJ = 0  # the id of the object among the meshes that are drawn
LEAST_VERTICES = 100
HELD_OUT = 1_000_000  # added to the seed
WORST = 1.0  # diameters: errors beyond it are not told apart, so that a mean means something


def make_learner(config: Config, *, resumes: bool = False) -> "RnnPoseLearner":
    """The network as training begins with it."""
    options = read_options(config)
    if not options.training.object or not options.training.photos:
        raise InputError("options.rnnpose.training: object and photos say what is learnt; name them")
    for name in idle_options(config):
        LOG.warning("%s has no effect on rnnpose", name)
    mesh = load_mesh(model_file(options.training, config.train_dataset), unit=_metres)
    learner = RnnPoseLearner(mesh, options, config)
    if config.checkpoint and not resumes:
        learner.begin_with(Path(config.checkpoint))
    return learner


def idle_options(config: Config) -> list[str]:
    """The entries that are set and that other methods alone read."""
    read = {"model": set(), "train_dataset": {"data_dir", "backgrounds", "augment"}}
    read["train"] = set(vars(config.train)) - {"frozen", "scale_weight"}
    return unread_entries(config, read)


class RnnPoseLearner:
    """The `Learner` of RNNPose; its samples are `Sample`s."""

    best_by = "add"

    def __init__(self, mesh: Mesh, options: Options, config: Config):
        self._options, self._config = options, config
        self._quirks = options.kept(released=False)
        self._mesh = model_mesh(mesh, options.longest_edge, options.training.object)
        self._surface = Surface.of(self._mesh)
        if len(self._surface.vertices) < LEAST_VERTICES:
            raise InputError(
                f"{options.training.object} has {len(self._surface.vertices)} vertices, too few to know it "
                "by; set options.rnnpose.longest_edge=0.1"
            )
        self._pyramid = build_pyramid(self._surface.vertices)
        self._diameter = diameter(self._mesh.vertices)
        self._draw = drawing(MeshViews({OBJ: self._mesh}), OBJ, options.network.zoom)
        network = RNNPose(options.network, self._quirks, vertices=self._surface.vertices)
        self.network = network.to(memory_format=torch.channels_last)  # convolutions like it best

    def begin_with(self, path: Path) -> None:
        """Takes the weights of a checkpoint, released or of this object, of the same sizes."""
        begun, _ = load_network(path, self._options)
        if not begun.is_of(self._surface.vertices):
            raise InputError(f"{path}: of another object than {self._options.training.object}; leave it out")
        begun.vertices = self.network.vertices
        fit(self.network, begun.state_dict(), path)

    def source(self, *, held_out: bool) -> Source:
        training, data = self._options.training, self._config.train_dataset
        seed = self._config.train.seed + held_out * HELD_OUT
        photos = training_photos(training, data, self._mesh, seed=seed, held_out=held_out)
        least = 1.0 if held_out else training.noise_least
        noise = PoseNoise(training.noise_degrees, tuple(training.noise_shift), least)
        size, augmented = self._options.network.patch, data.augment > 0 and not held_out
        return Samples(
            photos, self._surface, noise, size=size, seed=seed, quirks=self._quirks, augmented=augmented
        )

    def losses(self, batch: Sample, step: int) -> dict[str, Tensor]:
        """The sums over all iterations, and the descriptors' loss once."""
        training, truth = self._options.training, batch.cam_from_obj
        known, descriptors, steps = self._refine(batch, 1 if step < training.single else None)
        points = losses.point_losses(steps, truth, known, self._quirks).sum()
        flow = losses.flow_losses(steps, truth, known, self._quirks).sum()
        circle, _ = circle_loss(descriptors, known.descriptors, batch.pairs)
        return {
            "point": training.point_weight * points,
            "flow": training.flow_weight * flow,
            "circle": training.circle_weight * circle,
        }

    def measures(self, batch: Sample) -> dict[str, Tensor]:
        """Errors of the poses to begin with, and after each rendering: in degrees, mm and diameters."""
        known, descriptors, steps = self._refine(batch)
        each = self._options.network.iterations
        poses = {"start": batch.initial}
        poses |= {f"render_{n + 1}": step.cam_from_obj for n, step in enumerate(steps[each - 1 :: each])}
        measures = {}
        for name, pose in poses.items():
            turn, shift, add = self._errors(pose, batch.cam_from_obj, known)
            found = {"deg": turn, "mm": shift, "add": add, "add_10": (add < 0.1).float()}
            measures |= {f"{name}_{error}": value for error, value in found.items()}
        goal, valid = losses.true_flow(steps[-1], batch.cam_from_obj, 0.0)
        return measures | {
            "add": add.clamp(max=WORST),
            "flow_px": (steps[-1].flow - goal).norm(dim=1)[valid],
            "recall": circle_loss(descriptors, known.descriptors, batch.pairs)[1][None],
        }

    def pictures(self, batch: Sample) -> list[Tensor]:
        known, _, steps = self._refine(batch)
        return pictures.draw(batch, known, steps[0], steps[-1])

    def _errors(self, pose: Tensor, truth: Tensor, known: KnownObject) -> tuple[Tensor, Tensor, Tensor]:
        vertices = known.surface.vertices[None]
        off = (transform(pose, vertices) - transform(truth, vertices)).norm(dim=-1).mean(1)
        turn = rotation_angle(pose[:, :3, :3] @ truth[:, :3, :3].mT).rad2deg()
        return turn, 1000 * (pose - truth)[:, :3, 3].norm(dim=1), off / known.diameter

    def _refine(
        self, batch: Sample, renderings: int | None = None
    ) -> tuple[KnownObject, Tensor, list[Iteration]]:
        """What the network knows of the object, its descriptors of the patches, and all iterations."""
        device, network = batch.patch.device, self.network
        network.bf16 = use_bf16(self._config.train.bf16, device)
        known = network.known(self._surface.to(device), self._pyramid.to(device), self._diameter)
        patch = batch.patch.float() / 255
        descriptors = network.describe(patch)
        steps = list(
            network(patch, descriptors, batch.K, batch.initial, known, self._draw, renderings=renderings)
        )
        return known, descriptors, steps


def circle_loss(photo: Tensor, model: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """`losses.circle_loss` of descriptors (B, D, P, P) of patches and (V, D) of the vertices."""
    return losses.circle_loss(*paired_descriptors(photo, model, pairs), pairs)


def paired_descriptors(photo: Tensor, model: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Descriptors (B, N, D) of the pixels and of the vertices of pairs; a background's vertex is its pixel.

    photo: (B, D, P, P); model: (V, D).
    """
    x, y = pairs.pixel.unbind(-1)
    index = (y * photo.shape[-1] + x)[:, None].expand(-1, photo.shape[1], -1)
    pixels = photo.flatten(2).gather(2, index).mT
    vertices = F.embedding(pairs.vertex.clamp(min=0), model)
    return pixels, torch.where((pairs.vertex < 0)[..., None], pixels, vertices)


def _metres(diameter: float) -> float:
    """Metres per unit of a mesh whose diameter is given in it."""
    return UNITS[guess_unit(diameter)]
