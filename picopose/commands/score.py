"""Scores of a BOP result file.

picopose score --csv METHOD_lmo-test.csv --dataset_dir data/lmo --out scores.json
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.loading import loading


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--csv", type=Path, required=True, help="result file in BOP's format")
    add("--dataset_dir", type=Path, required=True, help="BOP data set with models_eval")
    add(
        "--targets", type=Path, help="target list (default: the data set's test_targets_bop19.json or _bop24)"
    )
    add("--camera", metavar="NAME", help="of a data set with several (default: the first, with a notice)")
    add("--errors", type=lambda text: text.split(","), help="such as mssd,mspd (default: all that can be)")
    add("--task", choices=("localization", "detection"), default="localization")
    add("--vsd_delta", type=float, help="tolerance of VSD's visibility test, mm (default: 15, ITODD 5)")
    add("--measures", action="store_true", help="also ADD(-S), 2D projection, rotation and translation")
    add("--out", type=Path, help="scores.json to write")
    add("--scorer", choices=("builtin", "bop_toolkit"), default="builtin", help="or the official program")
    return parser.parse_args(arguments)


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_arguments(arguments)
    with loading():
        from picopose.evaluation.bop_scores import table, write_scores
        from picopose.evaluation.scoring import score_csv
        from picopose.evaluation.toolkit import run_toolkit
    if options.scorer == "bop_toolkit":
        if options.errors or options.measures or options.vsd_delta is not None:
            raise InputError("--errors, --measures and --vsd_delta need --scorer builtin: leave them out")
        content = run_toolkit(options.csv, options.dataset_dir, task=options.task, targets=options.targets)
        print("\n".join(f"{name:<36}{value:8.4f}" for name, value in content.items()))
    else:
        scores = score_csv(
            options.csv,
            options.dataset_dir,
            targets=options.targets,
            camera=options.camera,
            errors=options.errors,
            task=options.task,
            vsd_delta=options.vsd_delta,
            measures=options.measures,
        )
        print(table(scores))
        content = scores.as_json()
    if options.out:
        write_scores(content, options.out)
