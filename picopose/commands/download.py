"""Fetches weights and data sets by name: `picopose download picopose lmo cnos-detections`; none lists them.

Weights go into ~/.cache/picopose/weights, or weights below PICOPOSE_CACHE, and are then known by their names:
picopose test --checkpoint_path picopose. What is there is not fetched again; what broke off is gone on with.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from picopose.utils.downloads import Download, RemoteFile, bring, downloads
from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.files import check_space, size_in_words
from picopose.utils.transfer import size_at


@exits_cleanly(stopped="stopped: the same command continues from here")
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as picopose or lmo")
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="folder of the data sets")
    parser.add_argument("--yes", action="store_true", help="fetch without asking")
    options = parser.parse_args(arguments)
    if not options.names:
        list_all()
        return
    wanted = [chosen(name) for name in dict.fromkeys(options.names)]
    files = {file: each.root(options.data_dir) for each in wanted for file in each.files}
    missing = {file: root for file, root in files.items() if not file.found(root)}
    for each in wanted:
        describe(each)
    if missing:
        tell_sizes(missing)
        if not (options.yes or agreed()):
            return
    for file, root in missing.items():
        bring(file, root)
    for file, root in files.items():
        print(file.found(root))


def list_all() -> None:
    """Says what there is."""
    known = downloads()
    width = max(map(len, known))
    for name, each in known.items():
        print(f"{name:{width}}  {each.what}{'' if each.files else ' (by hand)'}")


def chosen(name: str) -> Download:
    """What a name stands for; an `InputError` where that is nothing, or nothing that can be fetched."""
    known = downloads()
    if name not in known:
        raise InputError(f"{name}: nothing has that name; there are {', '.join(known)}")
    if not known[name].files:
        raise InputError(f"{name}: to be fetched by hand, from {known[name].page}. {known[name].note}")
    return known[name]


def describe(download: Download) -> None:
    """Says what will be fetched, and whose it is."""
    print(f"{download.name}: {download.what}. Licence: {download.licence or 'see'} {download.page}")
    if download.note:
        print(f"  {download.note}")


def tell_sizes(missing: dict[RemoteFile, Path]) -> None:
    """Says how much is to come into which folders; an `InputError` where that is more than is free.

    What an archive holds is expected to be as large as the archive, and lies beside it for a while.
    """
    to_come, room, complete = 0, Counter(), True
    for file, root in missing.items():
        size = size_at(file.url)
        print(f"  {file.file_name}:", "size unknown" if size is None else size_in_words(size))
        left = max((size or 0) - file.fetched(root), 0)
        to_come, complete = to_come + left, complete and size is not None
        room[root] += left if file.into is None else left + (size or 0)
    for root, count in room.items():
        check_space(root, count, "what is to be fetched")
    places = ", ".join(f"{size_in_words(count)} in {root}" for root, count in room.items())
    print(f"{size_in_words(to_come)}{'' if complete else ' or more'} to fetch, which takes {places}")


def agreed() -> bool:
    """Whether the user wants to go on."""
    if not sys.stdin.isatty():
        raise InputError("nobody can be asked here whether to go on: pass --yes")
    print("go on? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


if __name__ == "__main__":
    main()
