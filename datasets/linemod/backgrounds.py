"""Photos to show behind objects: any folder's, or of PASCAL VOC's those that show a dining table."""

from pathlib import Path

from picopose.datasets.images import find_photos
from picopose.utils.errors import InputError

_TABLES = "ImageSets/Main/diningtable_trainval.txt"  # of VOC2012: a name and 1, or -1 for a photo of none
_REMEDY = "download VOC2012 again"


def find_backgrounds(folder: Path, option: str) -> list[Path]:
    """The photos in a folder and its subfolders; in VOC2012's, those of tables alone.

    Raises an `InputError` that names the option where there are none, and for a list that is damaged.
    """
    listing = folder / _TABLES
    if not listing.is_file():
        return find_photos(folder, option)
    rows = [line.split() for line in listing.read_text(encoding="ascii", errors="replace").splitlines()]
    if any(len(row) != 2 or row[1] not in ("1", "0", "-1") for row in rows if row):
        raise InputError(f"{listing} is no list of names with 1 or -1: {_REMEDY}")
    found = [folder / "JPEGImages" / f"{row[0]}.jpg" for row in rows if row and row[1] == "1"]
    if not found:
        raise InputError(f"{listing} lists no photo that shows a table: {_REMEDY}")
    if missing := next((path for path in found if not path.is_file()), None):
        raise InputError(f"{missing} not found: {_REMEDY}")
    return found
