"""A folder of result files as what the evaluators compare."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from picopose.datasets.layouts import names_in
from picopose.datasets.nocs.detections import ImageResult, read_result
from picopose.evaluation.categories.instances import Estimates, Truths
from picopose.utils.errors import InputError


@dataclass(frozen=True, eq=False)
class Results:
    """The truths and estimates of some images, which are numbered in their order."""

    images: list[str]  # path of each, as in its file
    truths: Truths
    estimates: Estimates


def read_results(folder: Path) -> Results:
    """Those of all `*.pkl` of a folder, written here or by the original.

    Raises an `InputError` for a folder without any, a damaged file, and one without poses.
    """
    paths = sorted(folder.glob("*.pkl"))
    if not paths:
        raise InputError(
            f"{folder} has no results, *.pkl: name the folder of a run (there: {names_in(folder)})"
        )
    read = [read_result(path) for path in paths]
    for path, result in zip(paths, read, strict=True):
        if result.poses is None:
            raise InputError(f"{path} has no pred_RTs: name the folder of results, not that of detections")
    return joined(read)


def joined(results: list[ImageResult]) -> Results:
    """The results, with poses, of some images."""
    truths = [result.truths for result in results]
    return Results(
        [result.image_path for result in results],
        Truths(
            _image_numbers([each.class_ids for each in truths]),
            _rows([each.class_ids for each in truths], int),
            _rows([each.RTs for each in truths]),
            _rows([each.scales for each in truths]),
            _rows([each.handle_visible for each in truths], bool),
        ),
        Estimates(
            _image_numbers([result.class_ids for result in results]),
            _rows([result.class_ids for result in results], int),
            _rows([result.poses.RTs for result in results]),
            _rows([result.poses.scales for result in results]),
            _rows([result.scores for result in results]),
        ),
    )


def _image_numbers(rows: list[np.ndarray]) -> np.ndarray:
    return np.repeat(np.arange(len(rows)), [len(some) for some in rows])


def _rows(parts: list[np.ndarray], dtype: type = float) -> np.ndarray:
    return np.concatenate(parts).astype(dtype)
