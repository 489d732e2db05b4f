"""Makes the pictures of the documentation.

python -m tools.pictures page --out docs/page.jpg
python -m tools.pictures report RUN/report.html --out docs/report.jpg
python -m tools.pictures confidence CASES.npz [CASES.npz ...] --out docs/confidence.png
python -m tools.pictures run_confidence RUN/METHOD_DATASET-test.csv --dataset_dir data/DATASET --out run.png
python -m tools.pictures learning_curve SCALARS.jsonl [SCALARS.jsonl ...] --out docs/learning_curve.png
"""

import argparse
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from picopose.utils.errors import exits_cleanly


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    pictures = parser.add_subparsers(dest="picture", required=True)
    pictures.add_parser("page", help="the demo's page with a cereal box found in a photo of the mini set")
    report = pictures.add_parser("report", help="the beginning of a report, and its worst cases")
    report.add_argument("report", type=Path, help="report.html, as run_test.py writes it")
    confidence = pictures.add_parser("confidence", help="how often poses of a confidence are right")
    confidence.add_argument("cases", type=Path, nargs="+", help="as benchmarks.confidence collects them")
    run = pictures.add_parser("run_confidence", help="the same of a run of run_test.py on annotated images")
    run.add_argument("csv", type=Path, help="its poses, beside which lies what speaks for them")
    run.add_argument("--dataset_dir", type=Path, required=True, help="BOP data set with models_eval")
    run.add_argument("--task", choices=("localization", "detection"), default="localization")
    curve = pictures.add_parser("learning_curve", help="losses and validation errors over the pairs seen")
    curve.add_argument("scalars", type=Path, nargs="+", help="scalars.jsonl of the legs, in their order")
    curve.add_argument("--batch", type=int, default=16, help="pairs in a step: train.batch_size")
    for picture in pictures.choices.values():
        picture.add_argument("--out", type=Path, required=True, help="JPEG or PNG")
    return parser


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    options = vars(_parser().parse_args(arguments))
    import_module(f"tools.pictures.{options.pop('picture')}").draw(**options)


if __name__ == "__main__":
    main()
