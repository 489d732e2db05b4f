"""What each level of the paper adds: AR and pose errors after match, affine and flow, as one Markdown table.

python -m benchmarks.levels --config config/lite.yaml --checkpoint_path FILE --datasets mini [key=value ...]

Each level is a run of run_test.py whose poses, scores.json and report.html are left below LOG_DIR/DATASET.
"""

import argparse
import math
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from picopose.datasets import layouts
from picopose.evaluation.scoring import Scores, score_csv
from picopose.pipeline.bop_run import tested_set
from picopose.utils.config import LEVELS, Config
from picopose.utils.config_files import load_config
from picopose.utils.errors import exits_cleanly

RUN_TEST = Path(__file__).resolve().parent.parent / "run_test.py"
ERRORS = ("vsd", "mssd", "mspd")
HEADS = ("AR", *(f"AR_{error.upper()}" for error in ERRORS))


def run_test(title: str, arguments: Iterable[str]) -> None:
    """Runs run_test.py without its output; where that fails, the benchmark ends too."""
    print(title, file=sys.stderr)
    ended = subprocess.run([sys.executable, str(RUN_TEST), *arguments], stdout=subprocess.DEVNULL)
    if ended.returncode:
        sys.exit(ended.returncode)  # it has said why


def run_level(level: str, name: str, config: Config, options: argparse.Namespace) -> Scores:
    """The scores of one data set after one level, whose poses are estimated now and not taken from before."""
    log_dir, number = Path(config.log_dir) / name, LEVELS.index(level) + 1
    run_dir = log_dir / f"picopose_{Path(options.config).stem}_id{number}"
    for journal in run_dir.glob("*_journal"):
        shutil.rmtree(journal)  # perhaps of other weights
    command = ["--config", options.config, "--dataset", name, "--score"]
    command += ["--level", level, "--version_id", str(number)]
    for flag in ("checkpoint_path", "hypotheses", "gpus"):
        if (value := getattr(options, flag)) is not None:
            command += [f"--{flag}", str(value)]
    run_test(f"{name}, level {level}", [*command, *options.overrides, f"log_dir={log_dir}"])
    tested = tested_set(name, config, run_dir)
    where = {"targets": tested.targets, "camera": tested.camera}
    return score_csv(tested.csv, tested.dataset_dir, **where, measures=True)


def level_table(by_dataset: Iterable[Sequence[Scores]]) -> str:
    """A row for each data set and level; the scores are those after each of `LEVELS`, by data set."""
    heads = ("data set", "level", *HEADS, "median translation", "median rotation", "within 5 cm", "s/image")
    rows = []
    for of_dataset in by_dataset:
        for level, scores in zip(LEVELS, of_dataset, strict=True):
            overall, _ = scores.measures
            rows.append(
                [
                    *(scores.dataset, level),
                    *recalls(scores),
                    _number(overall.median_translation_mm, ".1f", " mm"),
                    _number(overall.median_rotation_deg, ".1f", " deg"),
                    _number(100 * overall.translation_5cm, ".0f", " %"),
                    _number(scores.summary["bop19_average_time_per_image"], ".2f"),
                ]
            )
    return markdown(heads, rows)


def recalls(scores: Scores) -> list[str]:
    """The cells below `HEADS`."""
    of_errors = (scores.summary.get(f"bop19_average_recall_{error}") for error in ERRORS)
    return [_number(value, ".3f") for value in (scores.mean, *of_errors)]


def object_table(scores: Scores) -> str:
    """A row for each object of a data set."""
    rows = [
        [str(obj_id), str(found["targets"]), *(_number(found.get(e), ".3f") for e in ("mean", *ERRORS))]
        for obj_id, found in scores.objects.items()
    ]
    return markdown((f"object of {scores.dataset}", "targets", *HEADS), rows)


def _number(value: float | None, form: str, unit: str = "") -> str:
    """A dash for what is not known, such as VSD without depth or the error of poses that are missing."""
    return "-" if value is None or not math.isfinite(value) else format(value, form) + unit


def markdown(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="config/lite.yaml", help="YAML file")
    parser.add_argument("--checkpoint_path", help="weights")
    parser.add_argument(
        "--datasets", default="mini", help="folders below test_dataset.data_dir, as in mini,lmo"
    )
    parser.add_argument("--hypotheses", type=int, help="templates followed for each detection")
    parser.add_argument("--gpus", help="index of the GPU, or cpu")
    parser.add_argument("--log_dir", default="log/levels", help="folder for the runs and for templates")
    parser.add_argument("--by_object", action="store_true", help="also print the last level's AR by object")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="entries of the config")
    options = parser.parse_intermixed_args()
    config = load_config(options.config, options.overrides, {"log_dir": options.log_dir})
    names = [layouts.dataset_name(name) for name in options.datasets.split(",")]
    by_dataset = [[run_level(level, name, config, options) for level in LEVELS] for name in names]
    print(f"\n{level_table(by_dataset)}")
    for of_dataset in by_dataset if options.by_object else []:
        print(f"\n{object_table(of_dataset[-1])}")


if __name__ == "__main__":
    main()
