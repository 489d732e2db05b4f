"""Random numbers as a function of what they are for."""

import zlib

import numpy as np


def stream(purpose: str, *key: int) -> np.random.Generator:
    """The generator of one purpose and key, independent of every other's.

    Two users of one key must differ in purpose: with equal streams, the draw that decides whether a photo's
    colours are changed would also decide how many objects stand in it.
    """
    return np.random.default_rng([zlib.crc32(purpose.encode()), *key])
