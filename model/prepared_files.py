"""A cache on disk of what is prepared per object: one safetensors file each, up to a total size.

`python -m picopose cache` shows its size; `--clear` empties it, `--shrink GB` removes the least recently used
files. They are made again when needed.
"""

import hashlib
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from picopose.utils.config import Config
from picopose.utils.errors import InputError
from picopose.utils.files import make_folder, one_at_a_time, write_atomically

LOG = logging.getLogger(__name__)
GIGABYTE = 1e9
LIMIT = 50.0  # GB: the published network's templates of the seven core sets of BOP take about 40
SUFFIX = ".safetensors"

Read = TypeVar("Read")


class PreparedFiles:
    """A cache folder of files by key.

    Args:
        folder: created with the first file; it may be deleted at any time between runs.
        limit: of all files, GB; those in use by this process always stay.
    """

    def __init__(self, folder: Path, *, limit: float = LIMIT):
        self._folder, self._limit = folder, limit
        self._in_use: set[Path] = set()

    def open(
        self, key: str, read: Callable[[Path], Read], make: Callable[[], dict[str, Tensor]], *, what: str
    ) -> Read:
        """What `read` returns for the file of a key, which is made first if missing or damaged.

        Of several processes that want it one makes it, and the others wait. `read` raises a SafetensorError,
        KeyError, TypeError or ValueError for a damaged file. The file is in use until `release`. Raises an
        `InputError` if the folder cannot be used.
        """
        path = self._path(key)
        self._in_use.add(path)
        if (found := self._existing(path, read)) is not None:
            return found
        make_folder(self._folder)  # fail before the work is done
        with one_at_a_time(path):
            if (found := self._existing(path, read)) is not None:
                return found
            LOG.info("preparing %s, once: %s", what, path)
            tensors = {name: values.contiguous() for name, values in make().items()}
            with write_atomically(path) as temporary:
                save_file(tensors, temporary)
        self.shrink(self._limit)
        return read(path)

    def _existing(self, path: Path, read: Callable[[Path], Read]) -> Read | None:
        """What `read` returns for a file; None if it is missing or damaged, and has to be made."""
        try:
            found = read(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            LOG.warning("%s is damaged (%s) and is written again", path, error)
            with suppress(OSError):  # read-only folder
                path.unlink()
            return None
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}): name another log_dir") from None
        with suppress(OSError):  # read-only folder
            os.utime(path)  # mark as used now
        return found

    def release(self, key: str) -> None:
        """Marks the file as no longer in use by this process."""
        self._in_use.discard(self._path(key))

    def shrink(self, limit: float) -> list[Path]:
        """Removes the least recently used files, but none in use, down to `limit` GB; returns them."""
        files = self.files()
        too_much = sum(size for size, _ in files.values()) - limit * GIGABYTE
        removed = []
        for path, (size, _) in sorted(files.items(), key=lambda file: file[1][1]):
            if too_much > 0 and path not in self._in_use:
                path.unlink(missing_ok=True)
                removed.append(path)
                too_much -= size
        return removed

    def files(self) -> dict[Path, tuple[int, float]]:
        """Size in bytes and time of last use of each file."""
        found = {}
        for path in self._folder.glob(f"[!.]*{SUFFIX}"):
            with suppress(FileNotFoundError):  # another process removed it
                stat = path.stat()
                found[path] = stat.st_size, stat.st_mtime
        return found

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{SUFFIX}"


def key_of(source: str, made_with: str) -> str:
    """The key of what is made of a source, such as a mesh, and with what; both are digests or as good."""
    return hashlib.sha256(f"{source} {made_with}".encode()).hexdigest()[:20]


def features_dir(config: Config) -> Path:
    """Where prepared templates and views are kept."""
    return Path(config.runtime.features_dir or Path(config.log_dir) / "features")


def prepared_files(config: Config) -> PreparedFiles:
    return PreparedFiles(features_dir(config), limit=config.runtime.features_limit)
