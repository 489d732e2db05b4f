"""From a BOP result file to its scores, on the screen and in scores.json.

python -m picopose score --csv METHOD_lmo-test.csv --dataset_dir data/lmo --out scores.json
"""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from picopose.evaluation.linemod_table import linemod_table
from picopose.evaluation.scoring import Scores
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
        lines.append(linemod_table({scores.dataset: scores}))
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
