"""How DualPoseNet learns: one network for all categories, from prepared instances."""

import logging
from pathlib import Path

from torch import Tensor

from picopose.datasets.nocs.layout import CLASSES
from picopose.datasets.nocs.preparation import open_prepared
from picopose.datasets.training.loader import Source
from picopose.model.checkpoint import fit
from picopose.model.dualposenet import pictures
from picopose.model.dualposenet.adam import TensorFlowAdam
from picopose.model.dualposenet.boxes import overlaps
from picopose.model.dualposenet.losses import pose_losses
from picopose.model.dualposenet.network import DualPoseNet
from picopose.model.dualposenet.options import Options, read_options
from picopose.model.dualposenet.samples import Pool, Sample, Samples
from picopose.model.dualposenet.symmetry import angles, nearest_alike
from picopose.model.dualposenet.weights import load_network
from picopose.utils.config import Config, TrainConfig, unread_entries
from picopose.utils.distributed import rank
from picopose.utils.errors import InputError

LOG = logging.getLogger(__name__)
HELD_OUT = 1_000_000  # added to the seed
RIGHT_DEGREES, RIGHT_CM, RIGHT_OVERLAP = 10, 5, 0.5


def make_learner(config: Config, *, resumes: bool = False) -> "DualPoseNetLearner":
    """The network as training begins with it."""
    options = read_options(config)
    if not options.training.prepared:
        raise InputError(
            "options.dualposenet.training: prepared names no folder; prepare instances, see picopose nocs"
        )
    if config.train.validate_every and not options.training.held_out:
        raise InputError(
            "options.dualposenet.training: held_out names no folder to validate on; name one, or pass "
            "train.validate_every=0"
        )
    for name in idle_options(config):
        LOG.warning("%s has no effect on dualposenet", name)
    learner = DualPoseNetLearner(options, config)
    if config.checkpoint and not resumes:
        path = Path(config.checkpoint)
        fit(learner.network, load_network(path, options)[0].state_dict(), path)
    return learner


def idle_options(config: Config) -> list[str]:
    """The entries that are set and that other methods alone read."""
    others = {"frozen", "scale_weight", "bf16", "weight_decay"}
    read = {"train": set(vars(config.train)) - others, "model": set(), "train_dataset": set()}
    return unread_entries(config, read)


class DualPoseNetLearner:
    """The `Learner` of DualPoseNet; its samples are `Sample`s."""

    best_by = "wrong"

    def __init__(self, options: Options, config: Config):
        self._options, self._config = options, config
        self.network = DualPoseNet(options.network)

    def optimizer(self, options: TrainConfig) -> TensorFlowAdam:
        """The original's; the weights do not decay."""
        return TensorFlowAdam(
            self.network.parameters(), lr=options.lr, betas=tuple(options.betas), eps=options.eps
        )

    def source(self, *, held_out: bool) -> Source:
        training, train = self._options.training, self._config.train
        validates = held_out and training.held_out
        folders = training.held_out if validates else training.prepared
        instances = Pool([open_prepared(Path(folder).expanduser()) for folder in folders])
        if not len(instances):
            raise InputError(f"{folders[0]}: holds no instance; prepare a set with frames")
        if not held_out and rank() == 0:
            LOG.info("%d instances, %d steps an epoch", len(instances), len(instances) // train.batch_size)
        return Samples(
            instances,
            training,
            side=self._options.network.side,
            seed=train.seed + held_out * HELD_OUT,
            quirks=self._options.kept(released=False),
            augmented=not held_out,
        )

    def losses(self, batch: Sample, step: int) -> dict[str, Tensor]:
        training, truth = self._options.training, batch.truth
        estimate, canonical = self.network(batch.distances, batch.colours, batch.points)
        if training.symmetric:
            truth = nearest_alike(truth, estimate.rotation.detach(), batch.class_id)
        losses = pose_losses(estimate, canonical, batch.points, truth)
        return {name: getattr(training, f"{name}_weight") * loss for name, loss in losses._asdict().items()}

    def measures(self, batch: Sample) -> dict[str, Tensor]:
        """Errors of the explicit decoder, and shares of instances that are right, also by category.

        Right are poses within 10 degrees and 5 cm, and boxes that overlap by half.
        """
        estimate, canonical = self.network(batch.distances, batch.colours, batch.points)
        truth = nearest_alike(batch.truth, estimate.rotation, batch.class_id)
        degrees = angles(estimate.rotation, truth.rotation, batch.class_id)
        cm = 100 * (estimate.translation - truth.translation).norm(dim=1)
        right = ((degrees <= RIGHT_DEGREES) & (cm <= RIGHT_CM)).float()
        overlap = overlaps(estimate, truth)
        boxed = (overlap > RIGHT_OVERLAP).float()
        measures = {
            "wrong": 1 - right,
            "degrees": degrees,
            "cm": cm,
            "overlap": overlap,
            "boxed": boxed,
            "canonical": (canonical - truth.canonical(batch.points)).norm(dim=2).mean(1),
        }
        for class_id, name in enumerate(CLASSES, 1):
            measures[f"right_{name}"] = right[batch.class_id == class_id]
            measures[f"boxed_{name}"] = boxed[batch.class_id == class_id]
        return measures

    def pictures(self, batch: Sample) -> list[Tensor]:
        estimate, _ = self.network(batch.distances, batch.colours, batch.points)
        return pictures.draw(batch, estimate, nearest_alike(batch.truth, estimate.rotation, batch.class_id))
