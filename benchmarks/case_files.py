"""Files of cases, as benchmarks collect them: what speaks for each, and whether it is right."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from picopose.utils.errors import InputError


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Arrays of a file by their names; an `InputError` if it is missing, damaged or lacks one of them."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in names}
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: collect the cases first") from None
    except Exception as error:  # NumPy's and zip's readers raise all kinds of errors on damaged data
        raise InputError(f"{path} holds no cases of this kind ({error}): collect them again") from None
