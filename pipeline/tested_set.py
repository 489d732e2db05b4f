"""Where the input files of a run on a BOP data set are, and the result files that it writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from picopose.datasets.bop.side_file import LineDetails, read_details
from picopose.datasets.bop.targets import Targets, read_targets
from picopose.utils.errors import InputError

SCORE_FILES = ("scores.json", "report.html")  # of a run that was scored, in its folder


@dataclass(frozen=True)
class TestedSet:
    """A data set and the result files of a run on it."""

    __test__ = False  # not a test class

    name: str
    csv: Path  # poses; details of them are in a file of the same name with the suffix .json, if any
    dataset_dir: Path
    split_dir: Path  # of the test images
    targets: Path  # target list
    templates: Path | None  # data folder that `datasets.templates.StoredViews` reads, if templates are used
    camera: str | None = None  # of a data set with several; None: see `datasets.bop.scenes.open_scenes`
    task: str | None = None  # of `datasets.bop.targets.TARGETS`; None: that of the target list
    estimates_poses: bool = True
    detects: bool = False  # whether a stage of the run finds the objects itself

    @property
    def detections(self) -> Path:
        """The file for detections that the run makes itself, named as the BOP challenge asks."""
        return self.csv.with_name(f"{self.csv.stem}_detections.json")

    @property
    def results(self) -> dict[str, Path]:
        """The result files by their content: poses, detections."""
        found = {"poses": self.csv} if self.estimates_poses else {}
        return found | ({"detections": self.detections} if self.detects else {})

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that a run writes: results, details of the poses, and the configuration."""
        return *(self.csv.with_suffix(suffix) for suffix in (".csv", ".json", ".yaml")), self.detections

    def listed(self) -> Targets:
        """The targets, converted to the task if it is not that of their list."""
        return read_targets(self.targets).as_task(self.task)

    def details(self, count: int) -> list[LineDetails] | None:
        """The side file's `count` entries; None for a result file without one."""
        path = self.csv.with_suffix(".json")
        if not path.is_file():
            return None
        details = read_details(path)
        if len(details) != count:
            raise InputError(
                f"{path} has {len(details)} entries for {count} lines of {self.csv}: delete it or run again"
            )
        return details


def task_of(sets: Sequence[TestedSet]) -> str:
    """The task of a run; an `InputError` where the data sets' targets are of different tasks."""
    tasks = {tested.listed().task: tested.name for tested in sets}
    if len(tasks) > 1:
        told = ", ".join(f"{name} of {task}" for task, name in sorted(tasks.items()))
        raise InputError(f"the targets are of different tasks ({told}): choose one, or run them apart")
    return next(iter(tasks))
