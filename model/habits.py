"""Habits of an original program, which a method keeps for the weights that were trained with them.

A method lists them as a dataclass of truth values, all False by default.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import TypeVar

Quirks = TypeVar("Quirks")


def habits(kind: type[Quirks], names: Sequence[str] | None, *, released: bool) -> Quirks:
    """Those of some names, or `all`; without names all for released weights, and none for others."""
    if names is None:
        names = ["all"] if released else []
    everyone = [field.name for field in fields(kind)]
    return kind(**dict.fromkeys(everyone if "all" in names else names, True))


def check_names(kind: type, names: Sequence[str] | None) -> None:
    """Raises a `ValueError` for a name that is none of the habits, nor `all`."""
    known = {field.name for field in fields(kind)} | {"all"}
    if unknown := set(names or ()) - known:
        raise ValueError(f"quirks names {unknown.pop()}; it may hold {', '.join(sorted(known))}")
