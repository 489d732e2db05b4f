"""Reads numbers and names from text files of unknown encoding."""

import codecs
import os
import warnings

import numpy as np

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def plain(content: bytes) -> bytes:
    """The text of a file without the byte order mark that Windows writes."""
    if content.startswith(_UTF16):
        return content.decode("utf-16").encode()
    return content.removeprefix(codecs.BOM_UTF8)


def numbers(text: bytes) -> np.ndarray:
    """The numbers (N,) float64 of a text; a `ValueError` if it holds anything else."""
    if not text.strip():
        return np.empty(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # older versions of NumPy only warn
        return np.fromstring(text, sep=" ")


def integers(text: bytes) -> np.ndarray:
    """As `numbers`, for integers (N,) int64."""
    return whole_numbers(numbers(text))


def whole_numbers(values: np.ndarray) -> np.ndarray:
    """The values (N,) as int64; a `ValueError` if one has a fraction or is too large."""
    if not (np.abs(values) < 2**53).all() or (values != np.trunc(values)).any():
        raise ValueError("a number is not whole")
    return values.astype(np.int64)


def shown(text: bytes | str) -> str:
    """A name or a reason, shortened for messages."""
    text = text.decode("utf-8", errors="replace") if isinstance(text, bytes) else text
    return text[:120]


def spellings(name: bytes) -> list[str]:
    """Possible readings of a file name: as it stands, and in the encodings of older Windows."""
    found = [os.fsdecode(name)]
    for encoding in ("cp1252", "gbk"):
        try:
            found.append(name.decode(encoding))
        except UnicodeDecodeError:
            continue
    return list(dict.fromkeys(found))
