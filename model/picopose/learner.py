"""How PicoPose learns: from pairs of a photo's crop and a template, of all three levels at once.

Backbone, dense head and decoder may run in bf16; what is compared with the truth is float32.
"""

import logging
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from picopose.datasets.training.pairs import PairSource
from picopose.datasets.training.sources import description, idle_options, make_source, mesh_files
from picopose.model.picopose import losses, pictures
from picopose.model.picopose.build import SCRATCH, build_network, load_network
from picopose.model.picopose.network import Answer, PicoPose, RealCrop, Template
from picopose.model.picopose.stage import stage_of
from picopose.model.picopose.supervision import StartNoise, Truth, disturb, draw_noise, patch_of, truth_of
from picopose.model.stage import Stage
from picopose.rendering.studio import Studio
from picopose.utils.config import Config, TrainDatasetConfig
from picopose.utils.device import send, use_bf16
from picopose.utils.distributed import rank, world_size
from picopose.utils.errors import InputError
from picopose.utils.geometry import cell_centres, transform
from picopose.utils.records import Pair

LOG = logging.getLogger(__name__)


def make_learner(config: Config, *, resumes: bool = False) -> "PicoPoseLearner":
    """The network as training begins with it.

    resumes: whether a checkpoint's weights will replace its own, so that none need be named.

    Raises:
        InputError: nothing says with which weights it begins, or they are unfit.
    """
    if not (resumes or config.checkpoint):
        _check_beginning(config)
    network = build_network(**asdict(config.model))
    if config.checkpoint:
        load_network(network, Path(config.checkpoint))
        network.floored = False  # from now on it learns exact targets
    if config.train.frozen:
        network.backbone.freeze()
    if rank() == 0:
        describe_pairs(config)
    return PicoPoseLearner(network.to(memory_format=torch.channels_last), config)  # convolutions like it best


class PicoPoseLearner:
    """The `Learner` of PicoPose; its samples are `Pair`s."""

    best_by = "flow_px"

    def __init__(self, network: PicoPose, config: Config):
        self.network, self._config = network, config

    def source(self, *, held_out: bool) -> PairSource:
        return pair_source(self._config, held_out=held_out)

    def losses(self, batch: Pair, step: int) -> dict[str, Tensor]:
        """The paper's losses (Sec. 3.5); flow starts from the truth, disturbed."""
        truth = self._truth(batch)
        size, cells, coarse = self.network.size, self.network.backbone.cells, truth.positions[0]
        matched = losses.MatchedPatches(patch_of(coarse.xy, cells=cells, size=size), coarse.visible)
        start = disturb(truth.similarity, self._noise(batch, step)).matrix(batch.template)
        with torch.autocast(start.device.type, torch.bfloat16, enabled=self._bf16(batch)):
            real, template = self._read(batch)
            answer = self.network(real, template, start)
        similarity = answer.similarity
        return {
            "matching": losses.info_nce(real.descriptors, template.descriptors, matched),
            "translation": losses.translation_loss(similarity, truth.similarity, patch=size / cells),
            "scale": self._config.train.scale_weight * losses.scale_loss(similarity, truth.similarity),
            "angle": losses.angle_loss(similarity, truth.similarity),
            "flow": losses.flow_loss(answer.flows, truth.positions, size=size),
            "certainty": losses.certainty_loss(answer.flows, truth.positions),
        }

    def measures(self, batch: Pair) -> dict[str, Tensor]:
        """In pixels, degrees and shares; the flow starts from the regressed transform, as at test time."""
        answer, best_patch, truth = self._answer(batch)
        size, cells = self.network.size, self.network.backbone.cells
        similarity, flow = answer.similarity, answer.flows[-1]
        coarse, fine = truth.positions[0], truth.positions[-1]
        start = transform(similarity.matrix(batch.template), cell_centres(cells, size, coarse.xy.device))
        off = (best_patch - coarse.xy).abs().amax(dim=-1)
        certain = flow.certainty.flatten(1) > 0
        return {
            # Share of visible template cells whose most similar real patch is right to a cell.
            "patches_matched": (off <= size / cells)[coarse.visible].to(off.dtype),
            "translation_px": (similarity.translation - truth.similarity.translation).norm(dim=-1),
            "scale_log": (similarity.scale.clamp(min=1e-3).log() - truth.similarity.scale.log()).abs(),
            "angle_deg": losses.signed_angle(similarity, truth.similarity).abs().rad2deg(),
            # Errors of the positions that the transform implies, and of the finest flow.
            "start_px": (start - coarse.xy).norm(dim=-1)[coarse.visible],
            "flow_px": losses.flow_error(flow, fine, size=size).norm(dim=-1)[fine.visible],
            # Share of cells.
            "certainty_right": (certain == fine.visible)[fine.known].to(off.dtype),
        }

    def pictures(self, batch: Pair) -> list[Tensor]:
        return pictures.draw(self.network, batch, *self._answer(batch))

    def stage(self, config: Config) -> Stage:
        return stage_of(self.network, config)

    def _answer(self, pair: Pair) -> tuple[Answer, Tensor, Truth]:
        """The network's answer, the real patch (B, n*n, 2) px most like each template patch, the truth."""
        real, template = self._read(pair)
        likeness = template.descriptors @ real.descriptors.mT
        centres = cell_centres(self.network.backbone.cells, self.network.size, likeness.device)
        return self.network(real, template), centres[likeness.argmax(dim=-1)], self._truth(pair)

    def _read(self, pair: Pair) -> tuple[RealCrop, Template]:
        """What the network reads of both crops, which go through the backbone in one batch."""
        crops = torch.cat([pair.real.rgb, pair.template.rgb])
        maps = self.network.features(crops, bf16=self._bf16(pair))
        real, template = zip(*(m.chunk(2) for m in maps), strict=True)
        return self.network.real(real), self.network.template(pair.template, template)

    def _bf16(self, pair: Pair) -> bool:
        return use_bf16(self._config.train.bf16, pair.real.rgb.device)

    def _truth(self, pair: Pair) -> Truth:
        return truth_of(pair, cells=self.network.backbone.cells, viewing_ray=self.network.viewing_ray)

    def _noise(self, pair: Pair, step: int) -> StartNoise:
        """This process's part of the noise of a step, which is a function of the step alone."""
        seed = np.random.SeedSequence([self._config.train.seed, step]).generate_state(1)[0]
        batch, size = len(pair.real.rgb), self.network.size
        generator = torch.Generator().manual_seed(int(seed))
        noise = draw_noise(batch * world_size(), size=size, generator=generator)
        return send(noise[rank() * batch : (rank() + 1) * batch], pair.real.rgb.device)


def pair_source(config: Config, *, held_out: bool = False, studio: Studio | None = None) -> PairSource:
    """Training pairs, or held-out ones: of other poses, scenes, shapes and images, colours as they are."""
    data, seed = config.train_dataset, config.train.seed
    if held_out:
        data, seed = _held_out(data), seed + 1_000_000
    studio = studio or Studio(max_faces=data.max_faces)
    return make_source(studio, data, size=config.model.size, seed=seed, held_out=held_out)


def _held_out(data: TrainDatasetConfig) -> TrainDatasetConfig:
    changes = {"augment": 0.0, "kept": None}
    if data.validation_meshes:
        for folder in data.validation_meshes:
            mesh_files(folder, "train_dataset.validation_meshes")
        changes |= {"synthetic": 1.0, "megapose": [], "meshes": data.validation_meshes, "shapes": 0.0}
    return replace(data, **changes)


def describe_pairs(config: Config) -> None:
    """Logs what the training pairs are of, and which options have no effect."""
    LOG.info("training pairs: %s", description(config.train_dataset))
    for option, reason in idle_options(config.train_dataset).items():
        LOG.warning("%s has no effect: %s", option, reason)
    if config.train_dataset.validation_meshes and not config.train.validate_every:
        LOG.warning("train_dataset.validation_meshes has no effect: train.validate_every is 0, never")


def _check_beginning(config: Config) -> None:
    """Refuses to train from weights that nobody has named."""
    model = config.model
    if model.pretrained is None:
        raise InputError(
            f"option model.pretrained: not set, and {model.backbone} needs weights to begin with; pass "
            "model.pretrained=timm (downloads the published ones), model.pretrained=FILE or checkpoint=FILE, "
            "or model.pretrained=scratch for random ones"
        )
    if config.train.frozen and model.pretrained == SCRATCH:
        raise InputError("option train.frozen: random weights would stay as they are; leave it out")
