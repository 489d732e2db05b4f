"""Shows or removes what is kept on disk of prepared objects; all of it is made again when it is needed."""

import argparse
from pathlib import Path

from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.files import remove_leftovers
from picopose.utils.home import cache_dir
from picopose.utils.loading import loading


@exits_cleanly
def main() -> None:
    folder = cache_dir() / "log" / "features"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=folder, help=f"by default {folder}")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--clear", action="store_const", const=0.0, dest="shrink", help="remove all")
    size.add_argument("--shrink", type=float, metavar="GB", help="remove what was used longest ago")
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        raise InputError(f"--folder {arguments.folder}: no such folder; name one, such as log/features")
    with loading():
        from picopose.model.prepared_files import GIGABYTE, PreparedFiles
    remove_leftovers(arguments.folder)
    kept = PreparedFiles(arguments.folder)
    if arguments.shrink is not None:
        print(f"{len(kept.shrink(arguments.shrink))} files removed")
    sizes = [size for size, _ in kept.files().values()]
    print(f"{arguments.folder}: {len(sizes)} files, {sum(sizes) / GIGABYTE:.2f} GB")
