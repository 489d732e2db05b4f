"""What can be fetched by name, see `config/downloads.toml`, and where it lies then."""

import shlex
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from picopose.utils.errors import InputError
from picopose.utils.files import in_turn, write_error
from picopose.utils.home import ROOT, own_file, user_cache
from picopose.utils.transfer import fetch, fetched_of
from picopose.utils.unpack import BadArchive, unpack

TABLE = ROOT / "config" / "downloads.toml"
_STAGING = ".download"  # folder of what is not complete


@dataclass(frozen=True)
class RemoteFile:
    """A file, or an archive if it has `into`, that is fetched into a folder; entries as in the table."""

    url: str
    gives: str
    name: str = ""
    sha256: str | None = None
    into: str | None = None
    inner: str = ""

    @property
    def file_name(self) -> str:
        return self.name or PurePosixPath(urlsplit(self.url).path).name

    def staged(self, root: Path) -> Path:
        """Where it lies until it is in its place."""
        return root / _STAGING / self.file_name

    def fetched(self, root: Path) -> int:
        """How many of its bytes have come."""
        staged = self.staged(root)
        return staged.stat().st_size if staged.exists() else fetched_of(staged)

    def found(self, root: Path) -> Path | None:
        """What it gives, if all of that is there."""
        return None if self.staged(root).exists() else next(iter(sorted(root.glob(self.gives))), None)


@dataclass(frozen=True)
class Download:
    """What a name stands for; entries as in the table."""

    name: str
    what: str
    page: str
    kind: str
    licence: str | None = None
    note: str | None = None
    files: tuple[RemoteFile, ...] = ()

    def root(self, data_dir: Path) -> Path:
        """The folder that its paths are relative to: that of the weights, or that of the data sets."""
        return weights_dir() if self.kind == "weights" else data_dir


def weights_dir() -> Path:
    """Where networks are that were fetched by name."""
    return user_cache() / "weights"


def downloads() -> dict[str, Download]:
    """All that can be fetched, by name."""
    with open(TABLE, "rb") as file:
        table = tomllib.load(file)
    return {
        name: Download(
            name, **entry | {"files": tuple(RemoteFile(**file) for file in entry.get("files", ()))}
        )
        for name, entry in table.items()
    }


def command_for(name: str, data_dir: Path | str) -> str | None:
    """The command that fetches a data set into its folder; None where the name is of none."""
    known = downloads().get(name)
    if known is None or known.kind != "data" or not known.files:
        return None
    return f"python -m picopose download {name} --data_dir {shlex.quote(str(data_dir))}"


def weights_file(given: Path | str) -> Path:
    """The file of a network: at this path, one of the program's own, or fetched by this name.

    Raises an `InputError` with the command where it can be fetched, but is not.
    """
    path = own_file(given)
    known = None if path.is_file() else downloads().get(str(given))
    if known is None or known.kind != "weights" or not known.files:
        return path
    found = known.files[0].found(weights_dir())
    if found is None:
        raise InputError(
            f"{given}: {known.what}, is not on this computer yet: run `python -m picopose download {given}`"
        )
    return found


def bring(file: RemoteFile, root: Path) -> None:
    """Fetches a file into its place below a folder, unless it is there; programs take turns.

    Raises an `InputError` as `fetch` and `unpack` do; what was interrupted is gone on with.
    """
    with in_turn(root):
        if file.found(root):
            return
        staged = file.staged(root)
        if not staged.exists():
            fetch(file.url, staged, sha256=file.sha256)
        try:
            _put_in_place(file, staged, root)
        except OSError as error:
            raise write_error(staged, error) or error from None
        if not any(staged.parent.iterdir()):
            staged.parent.rmdir()


def _put_in_place(file: RemoteFile, staged: Path, root: Path) -> None:
    if file.into is None:
        _move(staged, root / file.gives)
        return
    unpacked = staged.with_name(f"{staged.name}.unpacked")
    shutil.rmtree(unpacked, ignore_errors=True)  # of a killed run
    try:
        unpack(staged, unpacked)
        content = unpacked / file.inner
        gives = PurePosixPath(file.gives).relative_to(file.into)
        if not any(content.glob(str(gives))):
            holds = ", ".join(sorted(path.name for path in unpacked.iterdir())[:12]) or "nothing"
            raise InputError(
                f"{staged}: holds {holds}, but no {file.inner or gives}; unpack it by hand into "
                f"{root / file.into}"
            )
        _move(content, root / file.into)
    except BadArchive:
        staged.unlink()
        raise
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    staged.unlink()  # last, as it tells that its content is not yet in place


def _move(source: Path, target: Path) -> None:
    """Moves a file, or a folder's content beside what the target holds already."""
    if source.is_dir() and target.is_dir():
        for child in sorted(source.iterdir()):
            _move(child, target / child.name)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)
