"""Time of DualPoseNet and its parts, and ways to convolve on the sphere: `python -m benchmarks.dualposenet`.

The network has the original's sizes and random weights. Seconds are the processor's, since other programs may
be running; with one thread they are those of a quiet machine. Ratios are medians over pairs of runs.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.levels import markdown
from benchmarks.rnnpose import counted
from picopose.model.dualposenet.network import DualPoseNet, Sizes
from picopose.model.dualposenet.passes import PASSES, observe
from picopose.model.dualposenet.refine import (
    Descent,
    EncoderRefinement,
    FeatureRefinement,
    Observation,
    Refinement,
)
from picopose.model.dualposenet.sphere import SphericalConvolution, SphericalTransform
from picopose.utils.stopwatch import Stopwatch

BATCHES = 1, 16
POINTS = 5000  # of an object, as in a mask of 70 x 70 pixels
ESTIMATES = 4  # of a refinement
CHANNELS = {64: (16, 16), 32: (64, 64), 16: (128, 128), 8: (256, 128)}  # of convolutions, by sides of maps
SPHERE = [
    "side",
    "channels",
    "batch",
    "convolution, ms",
    "its products alone",
    "ratio",
    "transforms, ms",
    "with FFT",
    "ratio",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"{arguments.threads} threads, load of the machine before the start {os.getloadavg()[0]:.1f}\n")
    network = DualPoseNet(Sizes()).eval()
    rng = np.random.default_rng(0)
    points = rng.normal(size=(POINTS, 3)) * (0.1, 0.05, 0.03)
    seen = observe(points, points, network.side, rng)
    with torch.inference_mode():
        print_convolutions(arguments.runs)
        print_passes(network, points, seen, arguments.runs)
        stopwatch = watch(network)
        for batch in BATCHES:
            print_parts(network, seen, batch, arguments.runs, stopwatch)
    print_refinements(network, seen)


def seconds(runs: int, functions: Sequence[Callable[[], object]]) -> np.ndarray:
    """The processor's seconds (runs, F) of functions that are run in turn, after a first round."""
    taken = np.zeros((runs + 1, len(functions)))
    for row in taken:
        for place, function in enumerate(functions):
            start = time.process_time()
            function()
            row[place] = time.process_time() - start
    return taken[1:]


def print_refinements(network: DualPoseNet, seen: Observation) -> None:
    kinds: list[type[Refinement]] = [EncoderRefinement, FeatureRefinement]
    for kind in kinds:
        refinement = kind(network, Descent(1e-9, ESTIMATES, 0.0))
        taken = seconds(3, [lambda refinement=refinement: refinement(seen)])
        print(
            f"{kind.__name__}: median {np.median(taken) / ESTIMATES:.3f} s for each of {ESTIMATES} estimates"
        )


def print_passes(network: DualPoseNet, points: np.ndarray, seen: Observation, runs: int) -> None:
    rng = np.random.default_rng(0)
    taken = seconds(runs, [lambda: observe(points, points, network.side, rng), lambda: network(*seen)])
    maps, forward = np.median(taken, axis=0)
    print(
        f"{PASSES} passes: {PASSES * (maps + forward):.2f} s an object, of which maps {PASSES * maps:.3f} s\n"
    )


# Convolution on the sphere


def print_convolutions(runs: int) -> None:
    rows = [
        row(side, inputs, outputs, batch, runs)
        for side, (inputs, outputs) in CHANNELS.items()
        for batch in BATCHES
    ]
    print(markdown(SPHERE, rows) + "\n")


def row(side: int, inputs: int, outputs: int, batch: int, runs: int) -> list[str]:
    transform, maps = SphericalTransform(side), torch.randn(side, side, batch, inputs)
    convolution = SphericalConvolution(transform, inputs, outputs)
    torch.testing.assert_close(with_fft(transform, maps), back_and_forth(transform, maps))
    both = seconds(runs, [lambda: convolution(maps), products(convolution, maps)])
    ways = seconds(runs, [lambda: back_and_forth(transform, maps), lambda: with_fft(transform, maps)])
    return [str(side), f"{inputs}-{outputs}", str(batch), *compared(both), *compared(ways)]


def compared(taken: np.ndarray) -> list[str]:
    """Median milliseconds of two functions, and the median ratio: of the first to the second."""
    first, second = 1e3 * np.median(taken, axis=0)
    return [f"{first:.2f}", f"{second:.2f}", f"{np.median(taken[:, 0] / taken[:, 1]):.2f}"]


def products(convolution: SphericalConvolution, maps: Tensor) -> Callable[[], object]:
    """The products of matrices in a convolution, of numbers that lie ready, and nothing else."""
    transform, orders = convolution.transform, 2 * convolution.transform.degrees
    side, degrees, batch = transform.side, transform.degrees, maps.shape[2]
    inputs, outputs = convolution.weight.shape[1:]
    factors = [
        (convolution.spread, convolution.weight.flatten(1)),
        (transform.fourier, maps.flatten(1)),
        (transform.legendre, torch.randn(orders, side, batch * inputs)),
        (torch.randn(degrees, orders * batch, inputs), torch.randn(degrees, inputs, outputs)),
        (transform.inverse_legendre, torch.randn(orders, degrees, batch * outputs)),
        (transform.inverse_fourier, torch.randn(orders, side * batch * outputs)),
    ]
    results = [left @ right for left, right in factors]

    def run() -> None:
        for (left, right), result in zip(factors, results, strict=True):
            torch.matmul(left, right, out=result)

    return run


def back_and_forth(transform: SphericalTransform, maps: Tensor) -> Tensor:
    return transform.inverse(transform(maps))


def with_fft(transform: SphericalTransform, maps: Tensor) -> Tensor:
    """The same, with FFT in place of the matrices of Fourier's transform."""
    rows = torch.fft.rfft(maps.flatten(2), dim=0)[: transform.degrees]
    spectrum = transform.legendre @ torch.cat([rows.real, rows.imag])
    real, imaginary = (transform.inverse_legendre @ spectrum).chunk(2)
    filtered = torch.fft.irfft(torch.complex(real, imaginary), transform.side, dim=0, norm="forward")
    return filtered.view_as(maps)


# The network


def print_parts(network: DualPoseNet, seen: Observation, batch: int, runs: int, stopwatch: Stopwatch) -> None:
    """Seconds of the network, and the shares of its parts."""
    several = Observation(*(torch.cat([part] * batch) for part in seen))
    taken = seconds(runs, [lambda: network(*several)])
    print(f"network, batch {batch}: median {np.median(taken):.3f} s, least {taken.min():.3f} s")
    stopwatch.running = True
    for _ in range(runs):
        with stopwatch("whole"):
            network(*several)
    whole = stopwatch.seconds.pop("whole")
    stopwatch.seconds["the rest"] = whole - sum(stopwatch.seconds.values())
    for name, spent in stopwatch.seconds.items():
        print(f"{name:<26}{100 * spent / whole:8.1f} %")
    print()
    stopwatch.running = False
    stopwatch.seconds.clear()


def watch(network: DualPoseNet) -> Stopwatch:
    """A stopwatch that measures the parts of a network when it runs; no part calls another."""
    encoder, every = network.encoder, list(network.modules())
    convolutions = [module for module in every if isinstance(module, SphericalConvolution)]
    transforms = [module for module in every if isinstance(module, SphericalTransform)]
    parts = {
        "transform": [(transform, "forward") for transform in transforms],
        "products by degree": [(convolution, "filter") for convolution in convolutions],
        "inverse transform": [(transform, "inverse") for transform in transforms],
        "PReLU": [(convolution, "activate") for convolution in convolutions],
        "pooling": [(pool, "forward") for pool in encoder.pools],
        "flatten": [(layer, "forward") for layer in encoder.flatten],
        "head of the encoder": [(encoder.head, "forward")],
        "explicit decoder": [(network.explicit, "forward")],
        "implicit decoder": [(network.implicit, "forward")],
    }
    stopwatch = Stopwatch(running=False)
    for told, methods in parts.items():
        for module, name in methods:
            setattr(module, name, counted(getattr(module, name), told, stopwatch))
    return stopwatch


if __name__ == "__main__":
    main()
