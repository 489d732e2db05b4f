"""Scores of poses by category: `picopose categories RESULTS` scores a folder of NOCS's result files.

The files are those of `picopose test --model dualposenet` or of the original, one an image.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from picopose.utils.errors import exits_cleanly
from picopose.utils.loading import loading

_MODES = ("legacy", "correct", "oriented")


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("results", type=Path, metavar="RESULTS", help="folder with *.pkl")
    parser.add_argument(
        "--iou_mode",
        nargs="+",
        choices=_MODES,
        default=_MODES,
        help="rules of IoU (default: all; papers compare in legacy)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file for all numbers")
    options = parser.parse_args(arguments)
    with loading():
        from picopose.evaluation.bop_scores import write_scores
        from picopose.evaluation.categories.results import read_results
        from picopose.evaluation.categories.scores import score
        from picopose.evaluation.categories.tables import tables
    scores = score(read_results(options.results), options.iou_mode)
    print(tables(scores))
    if options.out:
        write_scores(scores.as_json(), options.out)


if __name__ == "__main__":
    main()
