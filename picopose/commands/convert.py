"""DualPoseNet's released checkpoint, of TensorFlow, as one file: `picopose convert model-30 OUT.safetensors`.

It takes a third of the space, as what training alone needs is left out, and is read sooner.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from picopose.utils.errors import exits_cleanly
from picopose.utils.loading import loading


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("checkpoint", type=Path, help="model-30, beside which lie its .index and .data files")
    parser.add_argument("out", type=Path, metavar="OUT.safetensors")
    options = parser.parse_args(arguments)
    with loading():
        from picopose.model.dualposenet.network import Sizes
        from picopose.model.dualposenet.released import rewrite
    count = rewrite(options.checkpoint, options.out, Sizes())
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB, {count / 1e6:.2f} M parameters")


if __name__ == "__main__":
    main()
