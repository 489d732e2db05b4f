"""How far the network is from the original's outputs, by device and precision: `python -m benchmarks.golden`.

The golden inputs and outputs lie in the folder that PICO_SHARED names. In the exact precision, single without
TF32, every output must be right to 1e-4 of its norm; the others are told for comparison. The backbone alone
computes in bfloat16, as in a test run.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.levels import markdown
from picopose.utils.device import choose_device
from picopose.utils.errors import exits_cleanly
from tests.golden import arrays
from tests.golden_run import as_used, compute, errors, released_network

TOLERANCE = 1e-4  # norm of the difference over norm
PRECISIONS = {"exact": (False, False), "TF32": (True, False), "TF32, bfloat16": (True, True)}


def measure(name: str, device: torch.device) -> list[dict[str, float]]:
    """The errors of a network's outputs in each of `PRECISIONS`."""
    with tempfile.TemporaryDirectory() as folder:
        network = as_used(released_network(name, Path(folder) / "released.ckpt")).to(device)
    inputs, golden = (
        {key: value.to(device) for key, value in arrays(file).items()}
        for file in ("golden_inputs", f"golden_{name}")
    )
    found = []
    for tf32, bf16 in PRECISIONS.values():
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        found.append(errors(compute(network, inputs, golden, bf16=bf16)))
    return found


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", nargs="+", choices=["vits14", "vitl14"], default=["vits14", "vitl14"])
    parser.add_argument("--device", help="cpu or the index of a GPU")
    options = parser.parse_args()
    device, exact = choose_device(options.device), []
    for name in options.networks:
        found = measure(name, device)
        rows = [[output, *(f"{by[output]:.1e}" for by in found)] for output in found[0]]
        print(f"{name} on {device}\n\n{markdown(['relative error of the', *PRECISIONS], rows)}\n", flush=True)
        exact += found[0].values()
    print(f"largest error of the exact precision: {max(exact):.1e}")
    if not all(error < TOLERANCE for error in exact):
        sys.exit(f"error: each must be below {TOLERANCE:.0e}")


if __name__ == "__main__":
    main()
