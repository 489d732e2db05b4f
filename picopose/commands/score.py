"""Scores of a BOP result file: poses, or 2D detections.

picopose score --csv METHOD_lmo-test.csv --dataset_dir data/lmo --out scores.json
picopose score --detections METHOD_lmo-test_detections.json --dataset_dir data/lmo
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
    results = parser.add_mutually_exclusive_group(required=True)
    results.add_argument("--csv", type=Path, help="poses in BOP's format")
    results.add_argument("--detections", type=Path, metavar="JSON", help="boxes and masks in BOP's format")
    add("--dataset_dir", type=Path, required=True, help="BOP data set with models_eval")
    add(
        "--targets", type=Path, help="target list (default: the data set's test_targets_bop19.json or _bop24)"
    )
    add("--camera", metavar="NAME", help="of a data set with several (default: the first, with a notice)")
    add("--errors", type=lambda text: text.split(","), help="such as mssd,mspd (default: all that can be)")
    add("--task", choices=("localization", "detection"), help="of poses (default: localization)")
    add("--vsd_delta", type=float, help="tolerance of VSD's visibility test, mm (default: 15, ITODD 5)")
    add("--measures", action="store_true", help="also ADD(-S), 2D projection, rotation and translation")
    add("--out", type=Path, help="scores.json to write")
    add("--scorer", choices=("builtin", "bop_toolkit"), default="builtin", help="or the official program")
    return parser.parse_args(arguments)


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_arguments(arguments)
    content = _score_detections(options) if options.detections else _score_poses(options)
    if options.out:
        with loading():
            from picopose.evaluation.bop_scores import write_scores
        write_scores(content, options.out)


def _score_detections(options: argparse.Namespace) -> dict:
    """Prints the scores of 2D detections and returns the content of scores.json."""
    for name in ("errors", "task", "vsd_delta", "measures"):
        if getattr(options, name):
            raise InputError(f"--{name} is about poses, and --detections are none: drop it")
    if options.scorer != "builtin":
        raise InputError("--scorer bop_toolkit runs on poses alone: leave it out for --detections")
    with loading():
        from picopose.evaluation.regions import score_detections, table
    where = {"targets": options.targets, "camera": options.camera}
    scores = score_detections(options.detections, options.dataset_dir, **where)
    print(table({scores.dataset: scores}))
    return scores.as_json()


def _score_poses(options: argparse.Namespace) -> dict:
    """Prints the scores of poses and returns the content of scores.json."""
    with loading():
        from picopose.evaluation.bop_scores import table
        from picopose.evaluation.scoring import score_csv
        from picopose.evaluation.toolkit import run_toolkit
    task = options.task or "localization"
    if options.scorer == "bop_toolkit":
        if options.errors or options.measures or options.vsd_delta is not None:
            raise InputError("--errors, --measures and --vsd_delta need --scorer builtin: leave them out")
        content = run_toolkit(options.csv, options.dataset_dir, task=task, targets=options.targets)
        print("\n".join(f"{name:<36}{value:8.4f}" for name, value in content.items()))
        return content
    scores = score_csv(
        options.csv,
        options.dataset_dir,
        targets=options.targets,
        camera=options.camera,
        errors=options.errors,
        task=task,
        vsd_delta=options.vsd_delta,
        measures=options.measures,
    )
    print(table(scores))
    return scores.as_json()
