"""Reads JSON objects whose keys are numbers, as BOP stores tables by image and by object."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from picopose.utils.errors import InputError
from picopose.utils.reading import integer, read_json


def read_table(path: Path, *, of: str, remedy: str) -> dict[int, Any]:
    """The values of a file by number, sorted; `of` names what the numbers are in messages.

    Raises an `InputError` for other keys, and for a number that occurs twice, as "3" and "003".
    """
    content = read_json(path, remedy=remedy)
    if not isinstance(content, dict) or not all(key.isdecimal() for key in content):
        raise InputError(f"{path} is no table by {of}: {remedy}")
    return by_number(content, str(path), of=of, remedy=remedy)


def by_number(content: Mapping[str | int, Any], where: str, *, of: str, remedy: str) -> dict[int, Any]:
    """As `read_table`, for a parsed table; `where` begins the `InputError`."""
    table: dict[int, Any] = {}
    for key, value in content.items():
        number = integer(key, f"{where}: the number of an {of}")
        if number in table:
            raise InputError(f"{where} lists {of} {number} twice: {remedy}")
        table[number] = value
    return dict(sorted(table.items()))


def by_id(entries: list, where: str) -> dict[int, dict]:
    """The objects of a list by `id`; an `InputError` if one is missing or occurs twice."""
    table: dict[int, dict] = {}
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"{where}: entry {index} is no object: make the file again")
        number = integer(entry.get("id"), f"{where}: id of entry {index}")
        if number in table:
            raise InputError(f"{where} lists id {number} twice: make the file again")
        table[number] = entry
    return table
