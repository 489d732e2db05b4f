"""The estimator through torch.hub and in the example."""

import json
import re
import subprocess
import sys

import numpy as np
from scipy.spatial.transform import Rotation

from examples import estimate
from tests import shipped
from tests.shared import ROOT


def test_the_hub_loads_it_from_a_folder(meshes, tmp_path):
    """In a process that knows nothing of the repository but its path."""
    options = {"device": "cpu", "log_dir": str(meshes / "log"), "overrides": ["test.views=42"]}
    script = f"""
import torch
estimator = torch.hub.load({str(ROOT)!r}, "picopose", source="local", **{options})
print(estimator.config.method, *estimator.add_object({str(meshes / "box.ply")!r}).objects)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["rendermatch", "box"]


def test_the_example_finds_the_cereal_box(capsys):
    pose = estimate.main(device="cpu", log_dir=shipped.log_dir().name)
    *matrix, said = capsys.readouterr().out.splitlines()
    assert len(matrix) == 4 and re.fullmatch(r"obj_000002 at .* m: good, \d+ % sure", said)
    assert pose.confidence > 0.6
    truth = json.loads((ROOT / "data/mini/test/000001/scene_gt.json").read_text())["0"][2]
    assert truth["obj_id"] == 2
    turn = Rotation.from_matrix(np.reshape(truth["cam_R_m2c"], (3, 3)).T @ pose.cam_from_obj[:3, :3])
    assert np.degrees(turn.magnitude()) < 2
    assert np.linalg.norm(1000 * pose.cam_from_obj[:3, 3] - truth["cam_t_m2c"]) < 10  # mm, at 677
