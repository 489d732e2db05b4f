"""What a run on a BOP data set writes, and where the files that it came from are."""

from dataclasses import dataclass
from pathlib import Path

from picopose.datasets.bop.side_file import LineDetails, read_details
from picopose.utils.errors import InputError

SCORE_FILES = ("scores.json", "report.html")  # of a run that was scored, in its folder


@dataclass(frozen=True)
class TestedSet:
    """A data set and the result file of a run on it."""

    __test__ = False  # not a test class

    name: str
    csv: Path  # its side file, if any, has the suffix .json
    dataset_dir: Path
    split_dir: Path  # of the test images
    targets: Path  # target list
    templates: Path | None  # data folder that `datasets.templates.StoredViews` reads from, if any is
    camera: str | None = None  # of a data set with several; None: see `datasets.bop.scenes.open_scenes`

    @property
    def files(self) -> tuple[Path, ...]:
        """The result file, and what a run writes beside it: what speaks for its poses, its configuration."""
        return tuple(self.csv.with_suffix(suffix) for suffix in (".csv", ".json", ".yaml"))

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
