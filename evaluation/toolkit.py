"""Runs the official bop_toolkit on a result file, where a checkout of it is installed."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from picopose.evaluation.scoring import PROTOCOLS
from picopose.utils.errors import InputError


def toolkit_dir() -> Path | None:
    """The checkout that `bop_toolkit_lib` is installed from (`pip install -e`), or None."""
    spec = importlib.util.find_spec("bop_toolkit_lib")
    places = list(spec.submodule_search_locations or []) if spec else []
    root = Path(places[0]).parent if places else None
    return root if root is not None and (root / "scripts" / "eval_bop19_pose.py").is_file() else None


def run_toolkit(
    csv: Path, dataset_dir: Path, *, task: str = "localization", targets: Path | None = None
) -> dict[str, float]:
    """The official scores by name; takes a minute and more.

    The result file's name must keep the challenge's pattern, and the data set must be one that the toolkit
    knows, with depth images. targets: a target list in `dataset_dir`. Raises `InputError` where the toolkit
    is not installed or fails, with its last line.
    """
    root, protocol = toolkit_dir(), PROTOCOLS[task]
    if root is None:
        raise InputError("no checkout of bop_toolkit is installed: clone it and `pip install -e` it")
    csv, dataset_dir = csv.resolve(), dataset_dir.resolve()
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, str(root / "scripts" / f"eval_{protocol}_pose.py"), "--num_workers", "1"]
        command += ["--results_path", str(csv.parent), "--eval_path", out, "--result_filenames", csv.name]
        command += ["--targets_filename", targets.name if targets else f"test_targets_{protocol}.json"]
        if task == "localization":
            command += ["--renderer_type", "vispy"]
        run = subprocess.run(
            command, cwd=root, env=_environment(csv, dataset_dir, out), text=True, capture_output=True
        )
        scores = Path(out) / csv.name.removesuffix(".csv") / f"scores_{protocol}.json"
        if run.returncode or not scores.is_file():
            lines = [line for line in (run.stdout + run.stderr).splitlines() if line.strip()]
            raise InputError(f"bop_toolkit failed on {csv}: {lines[-1] if lines else 'no output'}")
        return json.loads(scores.read_text(encoding="utf-8"))


def _environment(csv: Path, dataset_dir: Path, out: str) -> dict[str, str]:
    """The toolkit reads its folders from the environment, starts `python` and renders with EGL."""
    return os.environ | {
        "BOP_PATH": str(dataset_dir.parent),
        "BOP_RESULTS_PATH": str(csv.parent),
        "BOP_EVAL_PATH": out,
        "BOP_OUTPUT_PATH": out,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "EGL_PLATFORM": "surfaceless",
        "PYOPENGL_PLATFORM": "egl",
    }
