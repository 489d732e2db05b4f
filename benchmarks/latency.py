"""What a pose costs, phase by phase: `python -m benchmarks.latency --backbone vitl14 --hypotheses 5`.

Cost is told in seconds and in *backbone passes*: the time that the same machine takes, in the same run, for
the backbone on one crop. Several values make a table of all combinations. The weights are random, so no
pose is found and RANSAC never ends early: its cost is an upper bound. With `runtime.compile=true` the network
is compiled first.
"""

import argparse
import logging
import resource
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.levels import markdown
from picopose.model.compiling import compile_network
from picopose.model.picopose.build import prepare_network
from picopose.model.picopose.network import PicoPose
from picopose.model.picopose.stage import PicoPoseStage, stage_of
from picopose.model.stage import Thing, Things
from picopose.rendering.mesh import Mesh, diameter
from picopose.rendering.mesh_templates import MeshTemplates
from picopose.rendering.procedural.shapes import random_shape
from picopose.rendering.renderer import Renderer
from picopose.utils.config import Config
from picopose.utils.config_files import load_config
from picopose.utils.device import choose_device
from picopose.utils.errors import exits_cleanly
from picopose.utils.masks import cut_out
from picopose.utils.records import Estimates, Frame
from picopose.utils.stopwatch import Stopwatch

BACKBONES = {
    "lite": ("config/lite.yaml", None),
    "vits14": ("config/base.yaml", "vit_small_patch14_dinov2"),
    "vitb14": ("config/base.yaml", "vit_base_patch14_dinov2"),
    "vitl14": ("config/base.yaml", "vit_large_patch14_dinov2"),
}
WIDTH, HEIGHT, FOCAL = 640, 480, 600.0


HEADS = ("network", "device", "hypotheses", "detections", "backbone pass", "photo", "passes per detection")
HEADS += ("of a first photo", "peak memory")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backbone", nargs="+", choices=BACKBONES, default=["vitl14"])
    parser.add_argument("--hypotheses", nargs="+", type=int, default=[5])
    parser.add_argument("--detections", nargs="+", type=int, default=[1])
    parser.add_argument("--device", help="cpu or the index of a GPU")
    parser.add_argument("--views", type=int, default=162)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--features_dir", help="keeps prepared templates (default: a temporary folder)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="entries of the config")
    return parser.parse_intermixed_args()


@exits_cleanly
def main() -> None:
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    device = choose_device(arguments.device)
    rows = []
    with tempfile.TemporaryDirectory() as temporary, Renderer() as renderer:
        mesh = random_shape(np.random.default_rng(0))
        for backbone in arguments.backbone:
            config = config_of(backbone, arguments, arguments.features_dir or temporary)
            network = prepare_network(config.model, None).to(device)
            if config.runtime.compile:
                compile_network(network)
            for hypotheses in arguments.hypotheses:
                for detections in arguments.detections:
                    config.test.hypotheses = hypotheses
                    seen = photo(renderer, mesh, detections)
                    source = MeshTemplates({0: mesh}, arguments.views, network.size)
                    stage = stage_of(network, config, Stopwatch(running=False))
                    stage.prepare(Things({0: Thing(0, "shape", diameter(mesh.vertices))}, templates=source))
                    rows.append(measured(backbone, stage, seen, arguments.repeats))
    print(markdown(HEADS, rows))


def config_of(backbone: str, arguments: argparse.Namespace, features: str) -> Config:
    file, name = BACKBONES[backbone]
    overrides = [*([f"model.backbone={name}"] if name else []), *arguments.overrides]
    return load_config(file, overrides, {"runtime.features_dir": features, "test.views": arguments.views})


def photo(renderer: Renderer, mesh: Mesh, detections: int) -> tuple[Frame, Estimates]:
    """A photo that shows the mesh so many times side by side, with true masks."""
    columns = int(np.ceil(np.sqrt(detections * WIDTH / HEIGHT)))
    rows = -(-detections // columns)
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1.0]])
    masks = []
    distance = 1.5 * diameter(mesh.vertices) * FOCAL / min(WIDTH / columns, HEIGHT / rows)
    for i in range(detections):
        pose = np.eye(4)
        pose[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        pose[:3, :3] *= np.linalg.det(pose[:3, :3])
        centre = [(i % columns + 0.5) * WIDTH / columns, (i // columns + 0.5) * HEIGHT / rows, 1]
        pose[:3, 3] = np.linalg.inv(K) @ centre * distance
        drawn = renderer.render([(mesh, pose)], K, WIDTH, HEIGHT)
        image = np.where(drawn.mask[..., None], drawn.rgb, image)
        masks.append(cut_out(torch.from_numpy(drawn.mask)))
    frame = Frame(torch.from_numpy(image).permute(2, 0, 1).contiguous(), torch.from_numpy(K).float())
    return frame, Estimates.of([0] * detections, masks)


def measured(backbone: str, stage: PicoPoseStage, seen: tuple[Frame, Estimates], repeats: int) -> list[str]:
    """Prints the phases of one combination; returns its cells below `HEADS`."""
    timed(lambda: stage.network.backbone(one_crop(stage.network)), stage.device)  # warm up
    reset_peak(stage.device)
    # Templates are prepared on disk, none of those chosen in memory.
    first = timed(lambda: stage(*seen), stage.device)
    passes, photos = [], []
    stage.stopwatch.running = True
    for _ in range(repeats):  # alternately, so that both see the same machine
        passes.append(timed(lambda: stage.network.backbone(one_crop(stage.network)), stage.device))
        photos.append(timed(lambda: stage(*seen), stage.device))
    one_pass, one_photo = statistics.median(passes), statistics.median(photos)
    hypotheses, detections = stage.options.hypotheses, len(seen[1])
    print(f"{backbone}, {hypotheses} hypotheses, {detections} detections:")
    for name, total in stage.stopwatch.seconds.items():
        seconds = total / repeats
        print(f"  {name:<24}{1000 * seconds:10.1f} ms{seconds / one_pass:8.2f} passes")
    costs = (f"{seconds / one_pass / detections:.2f}" for seconds in (one_photo, first))
    of_one = f"{1000 * one_pass:.1f} ms", f"{1000 * one_photo:.0f} ms"
    combination = backbone, str(stage.device), str(hypotheses), str(detections)
    return [*combination, *of_one, *costs, f"{peak(stage.device):.2f} GB"]


def one_crop(network: PicoPose) -> torch.Tensor:
    return torch.rand(1, 3, network.size, network.size, device=next(network.parameters()).device)


@torch.inference_mode()
def timed(function: Callable[[], object], device: torch.device) -> float:
    """Seconds until the device has done what the function asks for."""
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device) -> float:
    """GB of the process on CPUs, of PyTorch on GPUs."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
