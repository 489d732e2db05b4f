"""Symmetries, written as text or read from BOP's models_info.json."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from picopose.datasets.bop.objects import read_symmetry
from picopose.utils.symmetry import parse_symmetry
from tests.shared import ROOT


@pytest.mark.parametrize(("text", "count"), [("z4", 4), ("z2,x2", 4), ("x3", 3)])
def test_turns_are_about_the_middle(text, count):
    middle = np.array([0.1, 0.2, 0.3])
    symmetry = parse_symmetry(text, middle)
    assert len(symmetry.discrete) == count
    for motion in symmetry.discrete:
        assert np.allclose(motion @ np.append(middle, 1), np.append(middle, 1))
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_euler("xyz", (0.2, 0.1, -0.3)).as_matrix()
        assert np.allclose(symmetry.canonical(pose @ motion), symmetry.canonical(pose), atol=1e-9)


def test_models_info_beside_the_mesh_tells_the_symmetry():
    folder = ROOT / "data" / "mini" / "models"
    infos = ROOT / "data" / "mini" / "models_eval"
    assert read_symmetry(infos / "obj_000004.ply").axes  # the bowl
    assert read_symmetry(folder / "absent.ply") is None
