"""Makes a set of drawn bottles, bowls, cameras, cans, laptops and mugs: `python -m tools.category_set OUT`.

OUT has the layout of NOCS: CAMERA, obj_models, gts and, for the frames of val, segmentation_results. Val has
other objects than train. The same command goes on with what was interrupted; with more frames it adds some.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from picopose.datasets.images import find_photos
from picopose.utils.errors import InputError, exits_cleanly
from tools.category_set.making import make


@exits_cleanly(stopped="stopped; the same command goes on")
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the set")
    parser.add_argument("--train", type=int, default=4000, help="frames for training (default: 4000)")
    parser.add_argument("--val", type=int, default=200, help="frames of other objects (default: 200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--backgrounds", type=Path, metavar="DIR", help="photos for tables and walls")
    options = parser.parse_args(argv)
    for name in ("train", "val", "seed"):
        if getattr(options, name) < 0:
            raise InputError(f"--{name} {getattr(options, name)}: give 0 or more")
    photos = find_photos(options.backgrounds, "--backgrounds ") if options.backgrounds else []
    frames = {"train": options.train, "val": options.val}
    made = make(options.out, frames, photos, options.seed, options.processes)
    for _ in tqdm(made, total=sum(frames.values()), unit="frame"):
        pass


if __name__ == "__main__":
    main()
