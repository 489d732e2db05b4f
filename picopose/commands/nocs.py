"""Training instances of CAMERA25 and REAL275: `picopose nocs DOWNLOADS OUT` makes a folder a split in OUT.

DOWNLOADS holds the folders CAMERA, Real and obj_models. What was interrupted is gone on with.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from picopose.utils.errors import exits_cleanly
from picopose.utils.loading import loading

_TRAINED_ON = ("camera_train", "real_train")
_SPLITS = (*_TRAINED_ON, "camera_val")  # the last to validate on


@exits_cleanly(stopped="stopped; the same command goes on")
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("downloads", type=Path, metavar="DOWNLOADS", help="folder with CAMERA and Real")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the prepared instances")
    parser.add_argument("--splits", nargs="+", choices=_SPLITS, default=_TRAINED_ON)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0, help="of the draws that poses are fitted with")
    options = parser.parse_args(arguments)
    with loading():
        from tqdm import tqdm

        from picopose.datasets.nocs.preparation import open_prepared, prepare
    for split in options.splits:
        folder = options.out / split
        shards = prepare(options.downloads, split, folder, seed=options.seed, processes=options.processes)
        with tqdm(desc=split, unit="shard") as bar:
            for done, total in shards:
                bar.total = total
                bar.update(done - bar.n)
        print(f"{len(open_prepared(folder))} instances in {folder}")


if __name__ == "__main__":
    main()
