"""Quirks of an original program, which a method keeps for the weights that were trained with them.

A method lists its quirks as a dataclass of booleans, all False by default.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import TypeVar

Quirks = TypeVar("Quirks")


def choose_quirks(kind: type[Quirks], names: Sequence[str] | None, *, released: bool) -> Quirks:
    """The quirks of these names, where `all` names every one.

    Without names: all for released weights, none for others.
    """
    if names is None:
        names = ["all"] if released else []
    every_name = [field.name for field in fields(kind)]
    return kind(**dict.fromkeys(every_name if "all" in names else names, True))


def check_names(kind: type, names: Sequence[str] | None) -> None:
    """Raises a `ValueError` for a name that is neither a quirk nor `all`."""
    known = {field.name for field in fields(kind)} | {"all"}
    if unknown := set(names or ()) - known:
        raise ValueError(f"quirks names {unknown.pop()}; it may hold {', '.join(sorted(known))}")
