#!/usr/bin/env bash
# Installs the program into a fresh virtual environment, as a user does, and finds an object from a folder that has a
# utils.py and a model.py of its own, beside Hugging Face's package datasets: 6 GB and some minutes.
#
# tools/check_install.sh [FOLDER] [ADDRESS]
# FOLDER: for the environment, is kept; ADDRESS: for pip, such as git+https://...
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$(mktemp -d)}
mkdir -p "$folder/work"
cd "$folder/work"
python3 -m venv ../venv
../venv/bin/pip install --quiet --disable-pip-version-check "${2:-$repo}" datasets
echo 'OWNER = "user"' | tee utils.py >model.py
cat >lines.py <<END
import sys

if sys.argv[1:] == ["hub"]:
    import torch

    estimator = torch.hub.load("$repo", "picopose", source="local")
else:
    from picopose import PoseEstimator

    estimator = PoseEstimator()
estimator.add_object("$repo/data/mini/models/obj_000002.ply")
K = [[612.3, 0, 319.6], [0, 611.8, 241.7], [0, 0, 1]]
(pose,) = estimator.estimate("$repo/data/mini/test/000001/rgb/000000.jpg", K, boxes=[(333, 232, 485, 386)])
assert abs(pose.cam_from_obj[:3, 3] - [0.0913, 0.0795, 0.674]).max() < 0.01, pose.cam_from_obj

import datasets, model, picopose, utils

assert utils.OWNER == model.OWNER == "user" and hasattr(datasets, "load_dataset")
print(picopose.__file__, picopose.__version__, *pose.cam_from_obj[:3, 3])
END
XDG_CACHE_HOME=$folder/cache ../venv/bin/python lines.py
XDG_CACHE_HOME=$folder/cache ../venv/bin/python lines.py hub
../venv/bin/picopose --help >help.txt
../venv/bin/python - <<END
from importlib.metadata import files
print("installed:", *sorted({file.parts[0] for file in files("picopose")} - {".."}))
END
ls "$folder"/cache/picopose/log/features
