"""What each phase asks of a GPU: `python -m benchmarks.launches --config config/lite.yaml [key=value ...]`.

Kernels, waits of the host for the card, and blocking copies to it, of solving poses, of a training step and
of a photo with eight detections, as one Markdown table. An emulated GPU counts them: none is needed. At some
5 microseconds a launch, a phase of many small kernels takes as long as their number says.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.utils import clip_grad_norm_

from benchmarks import latency, pnp
from benchmarks.emulated_gpu import GPU, Asked, EmulatedGpu
from benchmarks.levels import markdown
from picopose.datasets.training.loader import Share
from picopose.model.methods import learner_of
from picopose.model.picopose.build import prepare_network
from picopose.model.picopose.learner import pair_source
from picopose.model.picopose.stage import stage_of
from picopose.model.solve.pnp import solve_pnp
from picopose.model.stage import Thing, Things
from picopose.pipeline.training.run import make_optimizer
from picopose.rendering.mesh import diameter
from picopose.rendering.mesh_templates import MeshTemplates
from picopose.rendering.procedural.shapes import random_shape
from picopose.rendering.renderer import Renderer
from picopose.utils.config import Config
from picopose.utils.config_files import load_config
from picopose.utils.errors import exits_cleanly
from picopose.utils.records import Pair

HEADS = ("phase", "kernels", "synchronisations", "copies from the host")
OUTLIERS = (0.3, 0.7)
DETECTIONS, VIEWS = 8, 42
# Training pairs that need no files.
SHAPES = [f"train_dataset.{entry}" for entry in ("meshes=[]", "shapes=1", "backgrounds=null", "kept=null")]


def of_solving(gpu: EmulatedGpu, outliers: float) -> Asked:
    """Of `solve_pnp` for the problems of benchmarks.pnp, all with this share of outliers."""
    random = np.random.default_rng(0)
    counts = random.integers(pnp.LEAST, pnp.MOST + 1, pnp.PROBLEMS)
    matches, K = pnp.padded([pnp.make_problem(random, int(count), 1 - outliers) for count in counts])
    matches, K = matches.to(GPU), K.to(GPU)
    gpu.reset()
    solve_pnp(matches, K, threshold_px=pnp.THRESHOLD)
    return gpu.asked


def of_training(gpu: EmulatedGpu, config: Config) -> dict[str, Asked]:
    """Of the parts of the second training step."""
    source, share = pair_source(config), Share(config.train.batch_size)
    batch = Pair.stack([source.sample(index) for index in share.indices(0)]).to(GPU)
    learner = learner_of("picopose", config, resumes=True)
    learner.network.train().to(GPU)
    optimizer = make_optimizer(learner, config.train)
    for step in range(2):
        with network_apart(gpu) as network:
            gpu.reset()
            total = sum(learner.losses(batch, step).values())
            supervision = gpu.asked
        gpu.reset()
        optimizer.zero_grad()
        total.backward()
        backward = gpu.asked
        gpu.reset()
        clip_grad_norm_(learner.network.parameters(), config.train.clip)
        clipping = gpu.asked
        gpu.reset()
        optimizer.step()
    parts = {"network": network, "supervision and losses": supervision, "backward pass": backward}
    return parts | {"norm of the gradients": clipping, "optimizer": gpu.asked}


@contextmanager
def network_apart(gpu: EmulatedGpu) -> Iterator[Asked]:
    """Has what modules ask of the card counted by themselves."""
    network, depth, around = Asked(), 0, gpu.asked

    def enter(*_) -> None:
        nonlocal depth, around
        if depth == 0:
            around, gpu.asked = gpu.asked, network
        depth += 1

    def leave(*_) -> None:
        nonlocal depth
        depth -= 1
        if depth == 0:
            gpu.asked = around

    hooks = register_module_forward_pre_hook(enter), register_module_forward_hook(leave)
    try:
        yield network
    finally:
        for hook in hooks:
            hook.remove()


def of_photo(gpu: EmulatedGpu, config: Config) -> Asked:
    """Of a photo whose templates are in memory."""
    with Renderer() as renderer:
        mesh = random_shape(np.random.default_rng(0))
        seen = latency.photo(renderer, mesh, DETECTIONS)
        network = prepare_network(config.model, None).to(GPU)
        stage = stage_of(network, config)
        source = MeshTemplates({0: mesh}, config.test.views, network.size)
        stage.prepare(Things({0: Thing(0, "shape", diameter(mesh.vertices))}, templates=source))
        stage(*seen)
        gpu.reset()
        stage(*seen)
    return gpu.asked


def row(phase: str, asked: Asked) -> list[str]:
    return [phase, *(str(count.total()) for count in (asked.kernels, asked.synchronisations, asked.copies))]


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="config/lite.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="entries of the config")
    options = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as features, EmulatedGpu() as gpu:
        # The emulated card tells no memory and casts nothing by itself; few views do as well as many.
        settings = {"runtime.batch": 64, "train.bf16": False, "test.bf16": False, "test.views": VIEWS}
        settings["runtime.features_dir"] = features
        config = load_config(options.config, [*SHAPES, *options.overrides], settings)
        rows = [row(f"solve_pnp, {share:.0%} outliers", of_solving(gpu, share)) for share in OUTLIERS]
        parts = of_training(gpu, config)
        rows += [row(f"training step: {part}", asked) for part, asked in parts.items()]
        rows.append(row(f"photo, {DETECTIONS} detections", of_photo(gpu, config)))
    print(markdown(HEADS, rows))


if __name__ == "__main__":
    main()
