"""From a BOP result file to its scores, on the screen and in scores.json.

python -m picopose.evaluation.bop_scores --csv METHOD_lmo-test.csv --dataset_dir data/lmo --out scores.json
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from picopose.evaluation.scoring import PROTOCOLS, Scores, score_csv
from picopose.evaluation.toolkit import run_toolkit
from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.files import write_atomically


def table(scores: Scores) -> str:
    """The scores as text: all, each object and, in localization, each scene."""
    localization = scores.task == "localization"
    names = [*scores.errors, "mean"]
    title = f"{scores.dataset}, {scores.task}: {'average recall' if localization else 'average precision'}"
    if localization and len(scores.errors) < 3:
        title += f" of {' and '.join(map(str.upper, scores.errors))} only, so not the challenge's AR"
    rows = {"all": {name: scores.average(name) for name in scores.errors} | {"mean": scores.mean}}
    rows |= {f"object {key}": values for key, values in scores.objects.items()}
    rows |= {f"scene {key}": values for key, values in scores.scenes.items()}
    lines = [title, " " * 12 + "".join(f"{name.upper():>8}" for name in names)]
    lines += [f"{label:<12}" + "".join(f"{row[name]:8.4f}" for name in names) for label, row in rows.items()]
    if scores.measures is not None:
        lines += [f"{name:<24}{value:8.4g}" for name, value in asdict(scores.measures[0]).items()]
    seconds = scores.time_per_image
    lines.append(
        f"{'seconds per image':<24}{seconds:8.3f}" if seconds >= 0 else "seconds per image: not available"
    )
    return "\n".join(lines)


def write_scores(content: dict[str, Any], path: Path | str) -> None:
    """Writes scores.json; numbers that are not finite become null."""
    with write_atomically(path) as temporary:
        text = json.dumps(_finite(content), indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--csv", type=Path, required=True, help="result file in BOP's format")
    add("--dataset_dir", type=Path, required=True, help="BOP data set with models_eval")
    add(
        "--targets", type=Path, help="target list (default: the data set's test_targets_bop19.json or _bop24)"
    )
    add("--camera", metavar="NAME", help="of a data set with several (default: the first, which is told)")
    add("--errors", type=lambda text: text.split(","), help="such as mssd,mspd (default: all that can be)")
    add("--task", choices=tuple(PROTOCOLS), default="localization")
    add("--vsd_delta", type=float, help="tolerance of VSD's visibility test, mm (default: 15, ITODD 5)")
    add("--measures", action="store_true", help="also ADD(-S), 2D projection, rotation and translation")
    add("--out", type=Path, help="scores.json to write")
    add("--scorer", choices=("builtin", "bop_toolkit"), default="builtin", help="or the official program")
    return parser


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
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


if __name__ == "__main__":
    main()
