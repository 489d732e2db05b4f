"""LINEMOD's test photos as a data set in BOP's layout: `picopose linemod DOWNLOADS OUT` makes OUT/lm.

picopose test --dataset lm test_dataset.data_dir=OUT then runs on it.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from picopose.utils.errors import exits_cleanly
from picopose.utils.loading import loading


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("downloads", type=Path, metavar="DOWNLOADS", help="folder that holds LM6d_converted")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of data sets in BOP's layout")
    parser.add_argument("--classes", nargs="+", metavar="NAME", default=[], help="such as ape (default: all)")
    options = parser.parse_args(arguments)
    with loading():
        from tqdm import tqdm

        from picopose.evaluation.linemod_set import write_bop_set
    folder = options.out / "lm"
    write_bop_set(options.downloads, folder, options.classes, progress=partial(tqdm, unit="object"))
    print(f"{folder} is made")


if __name__ == "__main__":
    main()
