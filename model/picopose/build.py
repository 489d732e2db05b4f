"""Builds what a configuration names: the network with its weights, and the stages of a test run."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import timm
import torch

from picopose.model.batches import automatic_batch
from picopose.model.confidence import ConfidenceStage, read_calibration
from picopose.model.folding import fold_batch_norms
from picopose.model.picopose.backbone import Dinov2, Pyramid
from picopose.model.picopose.network import PicoPose
from picopose.model.picopose.released import HALF_CELL, VIEWING_RAY, convert, is_released
from picopose.model.picopose.stage import PicoPoseStage
from picopose.model.prepared_files import GIGABYTE, PreparedFiles
from picopose.model.rendermatch.matcher import Matcher
from picopose.model.rendermatch.stage import RenderMatchStage
from picopose.model.rendermatch.views import ViewBank, ViewSource
from picopose.model.rendermatch.weights import load_imagenet, load_xfeat
from picopose.model.templates.bank import TemplateBank
from picopose.model.templates.store import TemplateSource, TemplateStore
from picopose.utils.checkpoint import fit, read_checkpoint, weights_of
from picopose.utils.config import Config, ModelConfig, network_of
from picopose.utils.errors import InputError
from picopose.utils.stopwatch import Stopwatch

LOG = logging.getLogger(__name__)
SCRATCH = "scratch"  # what `pretrained` is called where random weights are wanted
FEATURE_BATCH = 16  # crops that go through the small pretrained networks at once


def build_network(
    *,
    backbone: str,
    pretrained: str | None,
    stride: int,
    size: int,
    dpt_channels: Sequence[int],
    features: int,
    width: int,
    half_cell: float,
    viewing_ray: bool,
    deep: bool = True,
) -> PicoPose:
    """A network with random weights but for its backbone, which `pretrained` may name; see `ModelConfig`.

    Raises:
        InputError: no such backbone, or one that does not fit the crops' size.
    """
    if not timm.is_model(backbone):
        raise InputError(
            f"option model.backbone={backbone}: timm has no such network; see timm.list_models()"
        )
    dinov2 = backbone.split(".")[0].endswith("dinov2")
    stride = 14 if dinov2 else stride
    pretrained = None if pretrained == SCRATCH else pretrained
    if size % (2 * stride):
        raise InputError(f"option model.size={size}: must be a multiple of {2 * stride}, two patches")
    return PicoPose(
        Dinov2(backbone, size=size, pretrained=pretrained)
        if dinov2
        else Pyramid(backbone, size=size, stride=stride, deep=deep, pretrained=pretrained),
        size=size,
        dpt_channels=dpt_channels,
        features=features,
        width=width,
        half_cell=half_cell,
        viewing_ray=viewing_ray,
    )


def prepare_network(config: ModelConfig, checkpoint: str | None) -> PicoPose:
    """The network of a configuration, ready to be used but not to be trained.

    Its weights are a checkpoint's, or seeded random ones, with a warning.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(**asdict(config))
    if checkpoint:
        load_network(network, Path(checkpoint))
    else:
        LOG.warning("no checkpoint given: the weights are random (seeded), so the poses mean nothing")
    return fold_batch_norms(network).to(memory_format=torch.channels_last)


def make_stage(
    network: PicoPose, source: TemplateSource, config: Config, stopwatch: Stopwatch | None = None
) -> PicoPoseStage:
    """The network as a configuration's stage of a test run."""
    test, runtime = config.test, config.runtime
    batch = runtime.batch or automatic_batch(network.bytes_per_hypothesis, next(network.parameters()).device)
    bf16 = next(network.parameters()).is_cuda if test.bf16 is None else test.bf16
    store = TemplateStore(_prepared_files(config), network, source, batch=batch, bf16=bf16)
    return PicoPoseStage(
        network,
        TemplateBank(network, store, memory=runtime.template_memory * GIGABYTE, dense=test.stage == 3),
        hypotheses=test.hypotheses,
        stage=test.stage,
        threshold_px=test.threshold_px,
        batch=batch,
        seed=test.seed,
        bf16=bf16,
        stopwatch=stopwatch,
    )


def make_render_match(
    source: ViewSource, config: Config, device: torch.device, stopwatch: Stopwatch | None = None
) -> RenderMatchStage:
    """Render and match, as configured."""
    imagenet = load_imagenet().to(device)
    memory = config.runtime.template_memory * GIGABYTE
    return RenderMatchStage(
        imagenet,
        Matcher(load_xfeat().to(device), batch=config.runtime.batch or FEATURE_BATCH),
        ViewBank(_prepared_files(config), imagenet, source, n_views=config.test.views, memory=memory),
        source,
        hypotheses=config.test.hypotheses,
        turns=config.rendermatch.turns,
        refinements=config.rendermatch.refinements,
        batch=config.runtime.batch or FEATURE_BATCH,
        seed=config.test.seed,
        stopwatch=stopwatch,
    )


def make_confidence(
    source: ViewSource, config: Config, device: torch.device, stopwatch: Stopwatch | None = None
) -> ConfidenceStage:
    """The judge of the poses of any method."""
    matcher = Matcher(load_xfeat().to(device), batch=config.runtime.batch or FEATURE_BATCH)
    return ConfidenceStage(matcher, source, read_calibration(), stopwatch=stopwatch)


def features_dir(config: Config) -> Path:
    """Where prepared templates and views are kept."""
    return Path(config.runtime.features_dir or Path(config.log_dir) / "features")


def _prepared_files(config: Config) -> PreparedFiles:
    return PreparedFiles(features_dir(config), limit=config.runtime.features_limit)


def load_network(network: PicoPose, path: Path) -> None:
    """Fills a network with the weights of a checkpoint: one trained here, or the released one.

    Raises:
        InputError: no checkpoint, or one of another architecture; the message names the key.
    """
    checkpoint = read_checkpoint(path)
    if is_released(checkpoint):
        weights = convert(checkpoint, network.state_dict(), path)
        trained_with = {"half_cell": HALF_CELL, "viewing_ray": VIEWING_RAY}
    else:
        weights = weights_of(checkpoint, path)
        trained_with = network_of(checkpoint.get("config"), f"{path}: its config")
    network.floored = is_released(checkpoint)
    # These are no weights, so nothing else would tell that they differ.
    for name, value in (("half_cell", network.flow.half_cell), ("viewing_ray", network.viewing_ray)):
        if trained_with.get(name, value) != value:
            raise InputError(f"{path}: trained with model.{name}={trained_with[name]}; set it in the config")
    fit(network, weights, path)
