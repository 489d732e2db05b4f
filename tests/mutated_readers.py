"""The readers that damaged files are fed to: for each, good files, the program's call, and a sound value.

They are called as the programs call them, so that what one function lets through another may refuse.
"""

import timm  # noqa: F401  before any graphics context

from tests.mutated import bop_sets, linemod, meshes, nocs, pairs, prepared, run_files, shots, weights
from tests.mutation_cases import Reader

READERS: dict[str, Reader] = {
    name: reader
    for module in (meshes, shots, bop_sets, linemod, nocs, run_files, weights, pairs, prepared)
    for name, reader in module.READERS.items()
}
