"""A method that refines needs poses to start from: given ones, or those of an earlier method in the run."""

import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import run_demo
from picopose.datasets.bop.results import read_results
from picopose.model.methods import make_stages, needs_of, stage_names
from picopose.model.stage import Setup
from picopose.pipeline.estimator import PoseEstimator
from picopose.utils.config import Config
from picopose.utils.config_files import load_config
from picopose.utils.errors import InputError
from picopose.utils.stopwatch import Stopwatch
from tests import small_linemod
from tests.shared import ROOT
from tests.small_bop import dump, run_program, write_set
from tests.test_methods import arguments, poses

REFINING = "tests.toys.refining"
BEHIND = {
    "rendermatch": ["--config", "config/default.yaml", "options.rendermatch.turns=2"],
    "picopose": ["--config", "config/lite.yaml", "model.size=64"],
}


@pytest.fixture(scope="module")
def found(toy, tmp_path_factory) -> Path:
    """A result of another method."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        run_program(monkeypatch, *arguments(toy, 20, "--model", "tests.toys.method"))
    (path,) = (toy / "log" / "tests.toys.method_base_id20").glob("*.csv")
    return path


@pytest.mark.parametrize("named", [[], ["--stages", f"{REFINING},best"]])
def test_it_keeps_its_stage_where_poses_are_given(monkeypatch, toy, found, named):
    given = ["--model", REFINING, "--init", str(found), *named]
    run_program(monkeypatch, *arguments(toy, 21 + len(named), *given))
    refined = poses(toy / "log" / f"{REFINING}_base_id{21 + len(named)}")
    for (place, before, _), (same, after, _) in zip(poses(found.parent), refined, strict=True):
        assert place == same and np.allclose(after - before, [0, 0, 0.05], atol=1e-6)


@pytest.mark.parametrize(
    ("stages", "remedy"),
    [
        ([], f"rendermatch,best,{REFINING},best"),
        (["--stages", f"best,{REFINING}"], f"best,rendermatch,best,{REFINING}"),
        (["--stages", f"tests.toys.detector,{REFINING}"], f"tests.toys.detector,rendermatch,best,{REFINING}"),
        (["--stages", f"{REFINING},tests.toys.method"], f"rendermatch,best,{REFINING},tests.toys.method"),
    ],
)
def test_without_poses_it_is_refused_before_anything_is_read(monkeypatch, capsys, tmp_path, stages, remedy):
    with pytest.raises(SystemExit) as ended:
        run_program(monkeypatch, *arguments(tmp_path / "absent", 0, "--model", REFINING, *stages))
    assert ended.value.code == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.endswith(
        f"stages: {REFINING} needs poses to start from; give them, or name a method before it, as in "
        f"stages=[{remedy}]"
    )
    with pytest.raises(InputError, match="needs poses to start from; give them"):
        PoseEstimator(config=ROOT / "config/default.yaml", overrides=[f"stages=[best,{REFINING}]"])


@pytest.mark.parametrize("method", BEHIND)
def test_it_refines_what_a_method_of_the_same_run_has_found(monkeypatch, toy, method):
    given = [*BEHIND[method], "--view", "42", "--hypotheses", "2", "--model", method, "--stages"]
    results = []
    for version, stages in ((30, f"{method},best"), (31, f"{method},best,{REFINING}")):
        run_program(monkeypatch, *arguments(toy, version, *given, stages))
        (folder,) = (toy / "log").glob(f"{method}_*_id{version}")
        results.append(poses(folder))
    for (place, before, _), (same, after, _) in zip(*results, strict=True):
        assert place == same and np.allclose(after - before, [0, 0, 0.05], atol=1e-5)


def test_what_is_for_the_refining_method_is_not_refused_by_the_other():
    given = {"checkpoint=weights": "rendermatch takes no checkpoint", "test.threshold_px=3": "no stage"}
    for entry, problem in given.items():
        config = load_config(ROOT / "config/default.yaml", [entry, "stages=[rendermatch,best]"])
        setup = Setup(config, torch.device("cpu"), Stopwatch())
        with pytest.raises(InputError, match=problem):
            make_stages(config.stages, setup)
        both = replace(config, stages=["rendermatch", "best", REFINING])
        assert len(make_stages(both.stages, replace(setup, config=both))) == 3


def test_it_asks_for_what_both_need():
    config = Config(method=REFINING, stages=["picopose", "best", REFINING])
    assert needs_of(config) == {"templates", "meshes"}
    assert stage_names(Config(method=REFINING), from_poses=True) == [REFINING, "best"]


def test_it_runs_behind_the_default_method_on_own_photos(monkeypatch, tmp_path):
    """Whose objects are moved to their centres, and whose stages come from a file of one's own."""
    mini = ROOT / "data/mini"
    gt = json.loads((mini / "test/000001/scene_gt_info.json").read_text())["0"][0]
    obj_id = json.loads((mini / "test/000001/scene_gt.json").read_text())["0"][0]["obj_id"]
    K = json.loads((mini / "test/000001/scene_camera.json").read_text())["0"]["cam_K"]
    left, top, width, height = gt["bbox_visib"]
    results = []
    for number, stages in enumerate(("rendermatch,best", f"rendermatch,best,{REFINING}")):
        config = tmp_path / f"{number}.yaml"
        config.write_text(f"method: rendermatch\nstages: [{stages},confidence]\n")
        given = ["--mesh", next((mini / "models").glob(f"obj_{obj_id:06d}.*"))]
        given += ["--image", next((mini / "test/000001").glob("rgb/000000.*"))]
        given += ["--K", K[0], K[4], K[2], K[5], "--box", left, top, left + width, top + height]
        given += ["--config", config, "--gpus", "cpu", "--out", tmp_path / f"{number}"]
        given += ["test.views=42", "test.hypotheses=1", f"log_dir={tmp_path / 'log'}"]
        monkeypatch.setattr(sys, "argv", ["run_demo.py", *map(str, given)])
        run_demo.main()
        results.append(json.loads((tmp_path / f"{number}" / "pose.json").read_text())["poses"][0])
    before, after = (np.array(pose["cam_from_obj"]) for pose in results)
    assert np.allclose(after - before, np.eye(4)[2][:, None] * np.eye(4)[3] * 0.05, atol=1e-5)
    assert results[1]["confidence"] != 0.7  # judged anew


def posecnn(folder: Path, poses: dict[str, list[np.ndarray]]) -> Path:
    """PoseCNN's file of poses (3, 4) by class."""
    path = folder / "linemod_posecnn_results.pkl"
    rows = {name: [small_linemod.quaternion_row(pose) for pose in own] for name, own in poses.items()}
    path.write_bytes(pickle.dumps(rows))
    return path


def pvnet(folder: Path, poses: dict[str, list[np.ndarray]]) -> Path:
    """PVNet's folder of them."""
    (folder / "pvnet").mkdir()
    (folder / "pose_conversion").mkdir()
    frames = dict.fromkeys(poses, small_linemod.BOP_FROM_BLENDER)
    np.save(folder / "pose_conversion/blender2bop_RT.npy", frames)
    for name, own in poses.items():
        np.save(folder / f"pvnet/{name}.npy", np.array([small_linemod.in_blender(pose) for pose in own]))
    return folder / "pvnet"


@pytest.mark.parametrize("write", [posecnn, pvnet])
def test_poses_to_start_come_from_any_file_of_initial_poses(monkeypatch, found, tmp_path, write):
    """By class, in the order of the targets: one of the cup, object 2, and two of the jug, object 5."""
    write_set(tmp_path)
    keys = ("name", "id", "diameter")
    names = [dict(zip(keys, row, strict=True)) for row in (("cup", 2, 0.05), ("jug", 5, 0.08))]
    dump(tmp_path / "classes.json", names)
    given = read_results(found)
    places = {"cup": [(3, 2)], "jug": [(3, 5), (7, 5)]}
    rows = zip(given.im_id.tolist(), given.obj_id.tolist(), given.cam_from_obj, strict=True)
    first = {(im_id, obj_id): pose for im_id, obj_id, pose in reversed(list(rows))}
    wanted = {name: [first[place] for place in own] for name, own in places.items()}
    path = write(tmp_path, wanted)
    run_program(monkeypatch, *arguments(tmp_path, 40, "--model", REFINING, "--init", str(path)))
    refined = poses(tmp_path / "log" / f"{REFINING}_base_id40")
    assert [place for place, _, _ in refined] == ["3 2", "3 5", "7 5"]
    for place, after, score in refined:
        before = first[tuple(map(int, place.split()))][:, 3]
        assert np.allclose(after - before, [0, 0, 0.05], atol=1e-6) and score == pytest.approx(0.7)
