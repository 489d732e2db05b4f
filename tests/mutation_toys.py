"""Readers with one fault each, to see that it is noticed."""

import os
from collections.abc import Callable
from pathlib import Path

from picopose.utils.errors import InputError
from tests.mutation_cases import Reader

CONTENT = b"0123456789" * 3


def check(value: bytes) -> None:
    if value != CONTENT:
        raise AssertionError("not what was written")


def toy(damaged: Callable[[bytes], bytes], *, checked: bool = False) -> Reader:
    """A reader that does something to damaged content, and reads good content as it is."""

    def read(folder: Path) -> bytes:
        content = (folder / "toy.txt").read_bytes()
        return content if content == CONTENT else damaged(content)

    return Reader(
        write=lambda folder: (folder / "toy.txt").write_bytes(CONTENT),
        read=read,
        check=check if checked else lambda value: None,
        files=[("toy.txt", "binary")],
    )


def refuse(message: str) -> Callable[[bytes], bytes]:
    def refused(content: bytes) -> bytes:
        raise InputError(message)

    return refused


def endless(content: bytes) -> bytes:
    while True:
        pass


READERS = {
    "sound": toy(refuse("toy.txt is damaged: write it again")),
    "wrong": toy(lambda content: content, checked=True),
    "traceback": toy(lambda content: {}["missing"]),
    "nameless": toy(refuse("damaged")),
    "cut short": toy(lambda content: content),
    "endless": toy(endless),
    "greedy": toy(lambda content: (b"\1" * 150_000_000)[:1]),
    "killed": toy(lambda content: os._exit(3)),
}
