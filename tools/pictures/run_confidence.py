"""A picture of how often the poses of a confidence are right in a run on annotated images."""

from pathlib import Path

from matplotlib.figure import Figure

from picopose.datasets.bop.side_file import read_details
from picopose.evaluation.cases import false_estimates, find_cases, judgements
from picopose.evaluation.scoring import score_csv
from picopose.utils.errors import InputError
from picopose.utils.files import write_atomically
from tools.pictures.confidence import plot


def draw(csv: Path, dataset_dir: Path, task: str, out: Path) -> None:
    scores = score_csv(csv, dataset_dir, errors=["mssd", "mspd"], task=task)
    details = read_details(csv.with_suffix(".json"))
    cases = find_cases(scores.dataset, scores, details)
    confidence, right = judgements(cases, false_estimates(scores, details))
    if right.all() or not right.any():
        raise InputError(
            f"{csv}: its poses have no confidence, or are all right or all wrong: pass another run"
        )
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    plot(axes, f"{scores.dataset}, {task}", confidence, right)
    axes.set_ylabel("share of right poses")
    with write_atomically(out) as temporary:
        figure.savefig(temporary, dpi=120)
