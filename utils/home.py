"""Where the program's own files lie, and where it keeps what it prepares."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # the checkout, or the installed package


def own_file(path: Path | str) -> Path:
    """The path, or, where there is no such file, the program's own of that name, as `config/base.yaml`."""
    return ROOT / path if not Path(path).is_file() and (ROOT / path).is_file() else Path(path)


def cache_dir() -> Path:
    """The folder that a relative `log_dir` lies in: the checkout; installed, `user_cache`."""
    return ROOT if (ROOT / "pyproject.toml").is_file() else user_cache()


def user_cache() -> Path:
    """The folder that PICOPOSE_CACHE names, or picopose in the user's cache."""
    if given := os.environ.get("PICOPOSE_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "picopose"
