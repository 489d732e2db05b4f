"""BOP's files, read and written here; their lengths are millimetres, those of all that is read metres."""

MM = 1e-3  # m
