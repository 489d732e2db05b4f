"""Result files of the BOP challenge, read as strictly as by its own checker, and written.

One line is one estimated pose: scene_id,im_id,obj_id,score,R,t,time with R row-major and t in mm.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from picopose.datasets.bop import MM
from picopose.datasets.bop.image_result import FoundPose, ImageResult
from picopose.utils.errors import InputError
from picopose.utils.files import write_atomically
from picopose.utils.reading import LARGEST_ID, is_rotation

HEADER = "scene_id,im_id,obj_id,score,R,t,time"
MAX_TIME_DIFFERENCE = 1e-3  # s, between the lines of one image


@dataclass(frozen=True, eq=False)
class Results:
    """The N estimates of a result file, in file order."""

    scene_id: np.ndarray  # (N,) int
    im_id: np.ndarray  # (N,) int
    obj_id: np.ndarray  # (N,) int
    score: np.ndarray  # (N,) float
    cam_from_obj: np.ndarray  # (N, 3, 4) float, m; used as it is, never checked for being a rotation
    time: np.ndarray  # (N,) s for the whole image; negative = not available

    def __len__(self) -> int:
        return len(self.score)

    @property
    def time_per_image(self) -> float:
        """Mean seconds per image of the file; -1 if any line has none, NaN for a file without lines."""
        if (self.time < 0).any():
            return -1.0
        first: dict[tuple[int, int], float] = {}
        for scene_id, im_id, time in zip(self.scene_id, self.im_id, self.time, strict=True):
            first.setdefault((int(scene_id), int(im_id)), float(time))
        return float(np.mean(list(first.values()))) if first else float("nan")


def read_results(path: Path | str) -> Results:
    """The estimates of a result file; `InputError` with the line number where it breaks a rule.

    The header is optional. Each other line needs seven fields; integers must be spelt as such; an image's
    times must agree. Unknown ids, duplicates and non-finite numbers are allowed, as in the challenge.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = file.readlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text file: pass a BOP result file ({HEADER})") from None
    first = 1 if lines and HEADER in lines[0] else 0
    rows = []
    times: dict[tuple[int, int], float] = {}
    for number, line in enumerate(lines[first:], start=first + 1):
        try:
            row = _parse(line)
            _check_time(row, times)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}") from None
        rows.append(row)
    return _table(rows)


def doubts(results: Results) -> Iterator[str]:
    """Tells what the challenge allows in a result file, but nobody means."""
    poses = results.cam_from_obj
    finite = np.isfinite(poses).all(axis=(1, 2)) & np.isfinite(results.score)
    turned = is_rotation(poses[..., :3])
    if len(results) == 0:
        yield "it has no poses, so that every target counts as missed"
    if broken := int((~finite).sum()):
        yield f"{broken} of {len(results)} lines have numbers that are not finite, and count as wrong"
    if skewed := int((finite & ~turned).sum()):
        yield f"{skewed} of {len(results)} lines have an R that is no rotation; they are scored as they are"


def _parse(line: str) -> tuple:
    fields = line.split(",")
    if len(fields) != 7:
        found = f"{len(fields)} comma-separated fields" if line.strip() else "a blank line"
        raise ValueError(f"{found} instead of 7 ({HEADER})")
    ids = [
        _number(int, name, text) for name, text in zip(("scene_id", "im_id", "obj_id"), fields, strict=False)
    ]
    score, time = _number(float, "score", fields[3]), _number(float, "time", fields[6])
    rotation, translation = _numbers("R", fields[4], 9), _numbers("t", fields[5], 3)
    return *ids, score, rotation, translation, time


def _number(kind: type, name: str, text: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        expected = "an integer" if kind is int else "a number"
        raise ValueError(f"{name} is '{text.strip()[:40]}' instead of {expected}") from None
    if kind is int and abs(value) > LARGEST_ID:
        raise ValueError(f"{name} is {text.strip()[:40]}, which is too large")
    return value


def _numbers(name: str, text: str, count: int) -> list[float]:
    words = text.split()
    if len(words) != count:
        raise ValueError(f"{name} has {len(words)} numbers instead of {count}")
    return [_number(float, name, word) for word in words]


def _check_time(row: tuple, times: dict[tuple[int, int], float]) -> None:
    """Compares a line's time with the first one of its image, which it notes in `times`."""
    scene_id, im_id, *_, time = row
    if time < 0:
        return
    first = times.setdefault((scene_id, im_id), time)
    if abs(time - first) > MAX_TIME_DIFFERENCE:
        raise ValueError(
            f"time {time:g} s of scene {scene_id}, image {im_id} differs from its earlier {first:g} s: "
            f"give all lines of an image the same time"
        )


def _table(rows: list[tuple]) -> Results:
    scene_id, im_id, obj_id, score, rotation, translation, time = (
        zip(*rows, strict=True) if rows else [()] * 7
    )
    pose = np.empty((len(rows), 3, 4))
    pose[..., :3] = np.array(rotation, float).reshape(-1, 3, 3)
    pose[..., 3] = MM * np.array(translation, float).reshape(-1, 3)
    ids = [np.array(column, dtype=np.int64) for column in (scene_id, im_id, obj_id)]
    return Results(*ids, np.array(score, float), pose, np.array(time, float))


def csv_name(method: str, dataset: str, split: str) -> str:
    """BOP's name of a result file, `{method}_{dataset}-{split}[-{split_type}].csv`.

    `split` is the test folder (`test_primesense` is split `test` of type `primesense`). BOP cuts the name at
    underscores and the data set at hyphens, so in `method` other signs become hyphens, in `dataset` they go.
    """
    method = re.sub(r"[^A-Za-z0-9-]+", "-", method)
    dataset = re.sub(r"[^A-Za-z0-9]+", "", dataset)
    return f"{method}_{dataset}-{split.replace('_', '-')}.csv"


def write_csv(path: Path | str, results: Iterable[ImageResult]) -> None:
    """Writes BOP's result file: one line per pose, translation in mm, one time for all lines of an image."""
    with write_atomically(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        print(HEADER, file=file)
        for result in results:
            for pose in result.estimates:
                print(_line(result, pose), file=file)


def _line(result: ImageResult, pose: FoundPose) -> str:
    # Nine significant digits bring every float32 back exactly.
    rotation = " ".join(f"{value:.9g}" for value in pose.rotation)
    translation = " ".join(f"{1000 * value:.9g}" for value in pose.translation)
    identity = f"{result.scene_id},{result.im_id},{pose.obj_id}"
    return f"{identity},{pose.score:.9g},{rotation},{translation},{result.seconds:.6f}"
