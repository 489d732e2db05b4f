"""Fetches files from the web, completely or not at all, and goes on with what broke off."""

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from picopose.utils.errors import MALFORMED, InputError
from picopose.utils.files import make_folder, write_atomically, write_error
from picopose.utils.web import Answer, Broken, blocks, opened

PAUSES = (1, 2, 4, 8)  # s before another try, each where the last one brought nothing


@dataclass(frozen=True)
class _Version:
    """What a server said of the file that a part is of."""

    address: str
    size: int | None
    validator: str | None
    sha256: str | None


def size_at(address: str) -> int | None:
    """The bytes of the file at an address, or None where the server does not say; errors as in `fetch`."""
    try:
        with opened(address) as answer:
            return answer.size
    except Broken as error:
        raise InputError(f"{address}: {error}; check the network") from None


def fetched_of(target: Path) -> int:
    """How many bytes of a file have come already."""
    part = _part(target)
    return part.stat().st_size if part.is_file() else 0


def fetch(address: str, target: Path, *, sha256: str | None = None) -> None:
    """Fetches a file; one that is there is replaced. What breaks off is gone on with, in a later run too.

    Until it is complete and checked it is `target` with `.part` behind its name, beside which `.part.json`
    says which version of the file it is.

    Args:
        sha256: its digest, in place of what the server says of it.

    Raises:
        InputError: no connection; no such file, or a page in its place; another size or digest; a full disk.
    """
    make_folder(target.parent)
    failures, most = 0, fetched_of(target)
    while True:
        try:
            version = _receive(address, target, sha256)
            break
        except Broken as error:
            come = fetched_of(target)
            failures, most = (0 if come > most else failures + 1), max(come, most)
            if failures > len(PAUSES):
                raise InputError(
                    f"{address}: {error}; check the network and try again, which continues from here"
                ) from None
            time.sleep(PAUSES[max(failures - 1, 0)])
    _check(target, version)
    os.replace(_part(target), target)
    _note(target).unlink(missing_ok=True)


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _note(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")


def _receive(address: str, target: Path, sha256: str | None) -> _Version:
    """What is missing of a file; the version that is there then."""
    known, come = _known(target), fetched_of(target)
    if known is None or known.address != address:
        come = 0
    elif come == known.size:
        return known
    with opened(address, start=come, validator=known.validator if come else None) as answer:
        version = _Version(address, answer.size, answer.validator, sha256 or answer.sha256)
        try:
            _write(answer, version, target)
        except OSError as error:
            raise write_error(target, error) or error from None
    if version.size is not None and fetched_of(target) != version.size:
        raise Broken(f"the connection broke off after {fetched_of(target)} of {version.size} bytes")
    return version


def _known(target: Path) -> _Version | None:
    """The version that the part is of, if another one would be noticed."""
    try:
        version = _Version(**json.loads(_note(target).read_text(encoding="utf-8")))
    except (OSError, *MALFORMED):
        return None
    return version if version.validator or version.sha256 else None


def _write(answer: Answer, version: _Version, target: Path) -> None:
    """What a server sends, behind what has come; all of it where the server begins anew."""
    amount = {"total": answer.size, "initial": answer.start}
    bar = tqdm(desc=target.name, unit="B", unit_scale=True, disable=None, **amount)
    with bar, open(_part(target), "ab" if answer.start else "wb") as file:
        if not answer.start:  # only now that no byte of another version is left
            with write_atomically(_note(target)) as temporary:
                temporary.write_text(json.dumps(asdict(version)), encoding="utf-8")
        for block in blocks(answer.body):
            file.write(block)
            bar.update(len(block))


def _check(target: Path, version: _Version) -> None:
    """Removes a file with another digest than is known, and raises an `InputError`."""
    if version.sha256 is None:
        return
    with open(_part(target), "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != version.sha256:
        _part(target).unlink()
        _note(target).unlink(missing_ok=True)
        raise InputError(
            f"{version.address}: came with SHA-256 {found} in place of {version.sha256}, and is removed; try "
            "again, or fetch it by hand if its authors have changed it"
        )
