"""A checkpoint of training as a small file to give away: `picopose export CHECKPOINT OUT.pt`."""

import argparse
from pathlib import Path

from picopose.utils.errors import exits_cleanly
from picopose.utils.loading import loading


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description="Writes a checkpoint's weights alone, in half precision.")
    parser.add_argument("checkpoint", type=Path, help="file that run_train.py wrote")
    parser.add_argument("out", type=Path, metavar="OUT.pt")
    options = parser.parse_args()
    with loading():
        from picopose.model.picopose.export import export
    weights = export(options.checkpoint, options.out)
    count = sum(value.numel() for value in weights.values() if value.is_floating_point())
    size = options.out.stat().st_size
    print(f"{options.out}: {size / 1e6:.1f} MB, {count / 1e6:.2f} M parameters in half precision")
