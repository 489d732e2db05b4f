"""What is prepared of objects, kept on disk: a safetensors file for each, all together up to a limit.

All of it is made again when it is needed.
"""

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
from picopose.utils.files import make_folder, write_atomically

LOG = logging.getLogger(__name__)
GIGABYTE = 1e9
LIMIT = 50.0  # GB: the published network's templates of the seven core sets of BOP take about 40
SUFFIX = ".safetensors"

Read = TypeVar("Read")


class PreparedFiles:
    """A folder of prepared files by key.

    Args:
        folder: is made when the first file is written; it may be deleted at any time between runs.
        limit: GB that the files may take; what this process uses stays in any case.
    """

    def __init__(self, folder: Path, *, limit: float = LIMIT):
        self._folder, self._limit = folder, limit
        self._in_use: set[Path] = set()

    def open(
        self, key: str, read: Callable[[Path], Read], make: Callable[[], dict[str, Tensor]], *, what: str
    ) -> Read:
        """The file of a key as `read` reads it, in use from now on; a missing or damaged one is made first.

        `read` raises one of safetensors' errors, a KeyError, TypeError or ValueError of a damaged file.
        Raises an `InputError` where the folder cannot be used.
        """
        path = self._path(key)
        self._in_use.add(path)
        try:
            found = read(path)
            with suppress(OSError):  # of a folder that only others may write to
                os.utime(path)  # used now
            return found
        except (FileNotFoundError, NotADirectoryError):
            LOG.info("preparing %s, once: %s", what, path)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            LOG.warning("%s is damaged (%s) and is written again", path, error)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}): name another log_dir") from None
        make_folder(self._folder)  # it is known before the work is done that there can be one
        tensors = {name: values.contiguous() for name, values in make().items()}
        with write_atomically(path) as temporary:
            save_file(tensors, temporary)
        self.shrink(self._limit)
        return read(path)

    def release(self, key: str) -> None:
        """This process uses the file no longer."""
        self._in_use.discard(self._path(key))

    def shrink(self, limit: float) -> list[Path]:
        """Removes what was used longest ago, but nothing in use, until the rest takes `limit` GB."""
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
        """Bytes and time of the last use of each file."""
        found = {}
        for path in self._folder.glob(f"[!.]*{SUFFIX}"):
            with suppress(FileNotFoundError):  # another process removed it
                stat = path.stat()
                found[path] = stat.st_size, stat.st_mtime
        return found

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{SUFFIX}"


def features_dir(config: Config) -> Path:
    """Where prepared templates and views are kept."""
    return Path(config.runtime.features_dir or Path(config.log_dir) / "features")


def prepared_files(config: Config) -> PreparedFiles:
    return PreparedFiles(features_dir(config), limit=config.runtime.features_limit)
