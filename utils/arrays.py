"""NumPy's arrays in files that come from elsewhere."""

from pathlib import Path

import numpy as np


def read_array(path: Path) -> np.ndarray:
    """The array of an .npy file, mapped, so that it takes no memory however large the file says it is.

    Raises an OSError for a missing file, and a ValueError for whatever is no whole array of plain values.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # a damaged header leads NumPy's parser to any of Python's errors
        raise ValueError(f"no whole array without pickled objects: {error}") from None
    if array.offset + array.nbytes != path.stat().st_size:
        raise ValueError("longer than its array")
    return array
