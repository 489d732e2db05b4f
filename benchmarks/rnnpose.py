"""Time of one refinement by RNNPose, by its parts: `python -m benchmarks.rnnpose`.

The network has the paper's sizes and random weights; its object is one of data/mini.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from picopose.model.rnnpose.model_mesh import drawing, model_mesh
from picopose.model.rnnpose.network import RNNPose, Sizes
from picopose.model.rnnpose.options import Options
from picopose.model.rnnpose.point_pyramid import build_pyramid
from picopose.model.rnnpose.surface import Surface
from picopose.rendering.mesh import diameter, load_mesh
from picopose.rendering.mesh_views import MeshViews
from picopose.utils.home import ROOT
from picopose.utils.stopwatch import Stopwatch

MESH = ROOT / "data/mini/models/obj_000001.ply"
DISTANCE = 7.0  # of the camera, in diameters
PARTS = {  # methods of the network, by what they do; a part that another calls is not counted there
    "describe": "descriptors of the patch",
    "render": "drawing",
    "encoder": "image encoder",
    "to_cells": "means over cells",
    "correct": "correlation and update",
    "trust": "weights",
    "move": "Levenberg-Marquardt",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--photos", type=int, default=1, help="poses refined at once")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    measure(arguments.runs, arguments.photos)


@torch.inference_mode()
def measure(runs: int, count: int) -> None:
    mesh = model_mesh(load_mesh(MESH), Options().longest_edge, MESH.stem)
    surface, size = Surface.of(mesh), diameter(mesh.vertices)
    network = RNNPose(Sizes()).eval().to(memory_format=torch.channels_last)
    (pyramid, building), views = timed(lambda: build_pyramid(surface.vertices)), MeshViews({0: mesh})
    known, knowing = timed(lambda: network.known(surface, pyramid, size))
    pose = torch.eye(4).repeat(count, 1, 1)
    pose[:, 2, 3] = DISTANCE * size
    side = network.sizes.patch
    K = torch.tensor([[side * DISTANCE / 2.7, 0, side / 2], [0, side * DISTANCE / 2.7, side / 2], [0, 0, 1]])
    patch, K = torch.rand(count, 3, side, side), K.repeat(count, 1, 1)

    draw = drawing(views, 0, network.sizes.zoom)

    def refine() -> None:
        for _ in network(patch, network.describe(patch), K, pose, known, draw):
            pass

    refine()
    totals = []
    stopwatch = watch(network)
    for _ in range(runs):
        totals.append(timed(refine)[1])
    print(f"{len(surface.vertices)} vertices, {count} poses at once, {torch.get_num_threads()} threads")
    print(f"once for an object: pyramid {building:.3f} s, vertices' features {knowing:.3f} s")
    median = float(np.median(totals))
    for name, seconds in stopwatch.seconds.items():
        print(f"{name:<26}{seconds / runs:8.3f} s")
    print(f"{'the rest':<26}{np.mean(totals) - sum(stopwatch.seconds.values()) / runs:8.3f} s")
    print(f"{'one refinement, median':<26}{median:8.3f} s")


def watch(network: RNNPose) -> Stopwatch:
    """A stopwatch that measures the parts of a network from now on."""
    stopwatch = Stopwatch(running=True)
    for name, told in PARTS.items():
        part = getattr(network, name)
        owner, name = (part, "forward") if isinstance(part, torch.nn.Module) else (network, name)
        setattr(owner, name, counted(getattr(owner, name), told, stopwatch))
    return stopwatch


def counted(function: Callable, told: str, stopwatch: Stopwatch) -> Callable:
    def run(*arguments):
        with stopwatch(told):
            return function(*arguments)

    return run


def timed(function: Callable) -> tuple[object, float]:
    start = time.perf_counter()
    return function(), time.perf_counter() - start


if __name__ == "__main__":
    main()
