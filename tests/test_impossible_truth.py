"""Scores are refused where truth, objects, cameras or depth cannot be; odd lines of results are told."""

import json
import re
import shutil
import struct
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest

from picopose.commands.score import main
from picopose.datasets.bop.results import HEADER
from picopose.evaluation.after_run import score_run
from picopose.evaluation.cases import find_cases
from picopose.evaluation.scoring import score_csv
from picopose.utils.errors import InputError
from tests import scored_set
from tests.small_bop import dump, load

NAN = float("nan")
SKEWED = [1.0, 0.2, 0, 0, 1, 0, 0, 0, 1]
MIRROR = [1.0, 0, 0, 0, 1, 0, 0, 0, -1]


def edit(name, key, **changes):
    """Changes an entry of a table of scene 1 or of models_info.json: the first one of a list."""

    def harm(folder):
        path = folder / name
        content = load(path)
        entry = content[key]
        (entry[0] if isinstance(entry, list) else entry).update(changes)
        dump(path, content)

    return harm


GT, INFO = "test/000001/scene_gt.json", "test/000001/scene_gt_info.json"
CAMERA, MODELS = "test/000001/scene_camera.json", "models_eval/models_info.json"
AXIS = {"offset": [0, 0, 0], "axis": [0, 0, 0]}
IMPOSSIBLE = [
    (edit(GT, "2", cam_R_m2c=[NAN] * 9), r"scene_gt\.json: image 2, object 0: cam_R_m2c must be 9 finite"),
    (edit(GT, "2", cam_R_m2c=SKEWED), r"scene_gt\.json: image 2, object 0: cam_R_m2c is no rotation"),
    (edit(GT, "2", cam_R_m2c=MIRROR), r"cam_R_m2c is no rotation"),
    (edit(GT, "2", cam_R_m2c=[0] * 9), r"cam_R_m2c is no rotation"),
    (edit(GT, "2", cam_t_m2c=[0, NAN, 700]), r"cam_t_m2c must be 3 finite"),
    (edit(GT, "2", cam_t_m2c=[0.1, 0.1, 0.7]), r"cam_t_m2c is 0\.714143 mm long: metres where mm"),
    (edit(GT, "2", obj_id=1e30), r"obj_id must be an integer"),
    (edit(GT, "2", obj_id=10**400), r"obj_id must be an integer"),
    (edit(INFO, "2", visib_fract=NAN), r"visib_fract must be a finite number"),
    (edit(INFO, "2", visib_fract=30), r"visib_fract 30 is no share"),
    (edit(CAMERA, "2", cam_K=[NAN] * 9), r"scene_camera\.json: image 2: cam_K must be 9 finite"),
    (edit(CAMERA, "2", cam_K=[0] * 9), r"scene_camera\.json: image 2: cam_K"),
    (edit(CAMERA, "2", depth_scale=0), r"depth_scale 0 must be positive"),
    (edit(CAMERA, "2", depth_scale=NAN), r"depth_scale must be a finite number"),
    (edit(MODELS, "4", diameter=1e999), r"models_info\.json: object 4: diameter must be a finite"),
    (edit(MODELS, "4", diameter=0.09), r"object 4: diameter 0\.09 mm: metres where mm"),
    (edit(MODELS, "4", diameter=9000), r"object 4 is 9000 mm across, and its mesh is 115"),
    (edit(MODELS, "4", symmetries_discrete=[[NAN] * 16]), r"object 4: symmetries_discrete must be 16"),
    (edit(MODELS, "4", symmetries_continuous=[AXIS]), r"object 4: symmetries_continuous: the axis is zero"),
]


@pytest.mark.parametrize(("harm", "problem"), IMPOSSIBLE)
def test_what_cannot_be_is_refused(tmp_path, harm, problem):
    toy = scored_set.write(tmp_path, depth=False)
    harm(toy.folder)
    with pytest.raises(InputError, match=problem) as caught:
        score_csv(toy.csv, toy.folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(10, 10), (scored_set.WIDTH, scored_set.HEIGHT)])
def test_depth_of_another_size_than_the_photo_is_refused(tmp_path, shape):
    toy = scored_set.write(tmp_path)
    cv2.imwrite(str(toy.folder / "test/000001/depth/000005.png"), np.full(shape, 900, np.uint16))
    size = f"{shape[1]}x{shape[0]} px, and its photo 160x120 px"
    with pytest.raises(InputError, match=rf"depth/000005\.png has {size}"):
        score_csv(toy.csv, toy.folder)


def test_a_depth_image_that_claims_to_be_huge_is_refused_before_it_is_read(tmp_path):
    toy = scored_set.write(tmp_path)
    path = toy.folder / "test/000001/depth/000005.png"
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 60_000, 60_000)  # of its first chunk, whose check sum follows
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    with pytest.raises(
        InputError,
        match=r"depth/000005\.png has more than 150 million pixels",
    ):
        score_csv(toy.csv, toy.folder)


def test_a_depth_below_zero_is_refused(tmp_path):
    toy = scored_set.write(tmp_path)
    depth = np.full((scored_set.HEIGHT, scored_set.WIDTH), 900, np.float32)
    depth[3, 4] = -1
    (toy.folder / "test/000001/depth/000005.png").unlink()
    cv2.imwrite(str(toy.folder / "test/000001/depth/000005.tif"), depth)
    with pytest.raises(InputError, match=r"depth/000005\.tif has depths that are negative"):
        score_csv(toy.csv, toy.folder)


@pytest.mark.parametrize("number", [10**300, "9" * 400, 1e999])
def test_targets_with_numbers_too_large_are_refused(tmp_path, number):
    toy = scored_set.write(tmp_path, depth=False)
    dump(toy.folder / "test_targets_bop24.json", [{"scene_id": number, "im_id": 2}])
    with pytest.raises(InputError, match="target 0: scene_id must be an integer"):
        score_csv(toy.csv, toy.folder, task="detection")


@pytest.mark.parametrize("delta", [NAN, np.inf, 0, -15])
def test_a_tolerance_that_cannot_be_is_refused(tmp_path, delta):
    with pytest.raises(InputError, match=r"vsd_delta .*: give a positive number"):
        score_csv(tmp_path / "any.csv", tmp_path, vsd_delta=delta)


def test_an_empty_result_file_is_told(tmp_path, caplog):
    toy = scored_set.write(tmp_path, depth=False)
    toy.csv.write_text(HEADER + "\n")
    assert score_csv(toy.csv, toy.folder).summary["bop19_average_recall_mssd"] == 0
    assert f"{toy.csv}: it has no poses, so that every target counts as missed" in caplog.text


def test_odd_lines_are_counted_and_told(tmp_path, caplog):
    toy = scored_set.write(tmp_path, depth=False)
    sound = score_csv(toy.csv, toy.folder)
    assert caplog.text == ""
    lines = toy.csv.read_text().splitlines()
    rotation = "1 0.2 0 0 1 0 0 0 1"
    extra = [f"1,2,1,0.01,{rotation},0 0 400,1.0", f"1,2,1,0.01,{rotation},0 nan 400,1.0"]
    extra += ["1,2,99,0.01,1 0 0 0 1 0 0 0 1,0 0 400,1.0", "9,2,1,0.5,1 0 0 0 1 0 0 0 1,0 0 400,1.0"]
    toy.csv.write_text("\n".join(lines + extra) + "\n")
    with_odd = score_csv(toy.csv, toy.folder)
    count = len(lines) - 1 + len(extra)
    assert f"1 of {count} lines have numbers that are not finite, and count as wrong" in caplog.text
    assert f"1 of {count} lines have an R that is no rotation; they are scored as they are" in caplog.text
    assert f"2 of {count} lines are of nothing that the targets ask for, and do not count" in caplog.text
    assert np.array_equal(sound.recalls["mssd"], with_odd.recalls["mssd"])


def test_a_list_for_the_other_task_is_named(tmp_path):
    toy = scored_set.write(tmp_path, depth=False)
    (toy.folder / "test_targets_bop19.json").unlink()
    with pytest.raises(
        InputError, match=r"bop19\.json does not exist, but .*bop24.json: choose the task detection"
    ):
        score_csv(toy.csv, toy.folder)
    with pytest.raises(InputError, match="names no objects, which localization needs: choose the task"):
        score_csv(toy.csv, toy.folder, targets=toy.folder / "test_targets_bop24.json")


def test_one_camera_of_several_is_scored(tmp_path, capsys, caplog):
    toy = scored_set.write(tmp_path)
    expected = score_csv(toy.csv, toy.folder).summary
    for scene in (toy.folder / "test").iterdir():
        for name in ("camera", "gt", "gt_info"):
            (scene / f"scene_{name}.json").rename(scene / f"scene_{name}_cam2.json")
            dump(scene / f"scene_{name}_cam1.json", {})
        for name in ("rgb", "depth"):
            (scene / name).rename(scene / f"{name}_cam2")
    assert score_csv(toy.csv, toy.folder, camera="cam2").summary == expected
    main(["--csv", str(toy.csv), "--dataset_dir", str(toy.folder), "--camera", "cam2"])
    assert f"{expected['bop19_average_recall']:.4f}" in capsys.readouterr().out
    for scene in (toy.folder / "test").iterdir():
        for name in ("camera", "gt", "gt_info"):
            dump(scene / f"scene_{name}_cam1.json", load(scene / f"scene_{name}_cam2.json"))
        shutil.copytree(scene / "rgb_cam2", scene / "rgb_cam1")
    without_depth = score_csv(toy.csv, toy.folder)
    assert without_depth.errors == ("mssd", "mspd")
    assert without_depth.summary["bop19_average_recall_mssd"] == expected["bop19_average_recall_mssd"]
    assert "of the cameras cam1, cam2, cam1 is taken in 2 scenes" in caplog.text


def test_a_run_on_targets_without_objects_is_scored_as_detection(tmp_path, capsys):
    tested = scored_set.toy_set(tmp_path)
    tested = replace(tested, targets=tested.dataset_dir / "test_targets_bop24.json", templates=None)
    (scores,) = score_run([tested], tmp_path, config="", template_size=64, required=True).values()
    assert scores.summary == score_csv(tested.csv, tested.dataset_dir, task="detection").summary
    assert f"{scores.summary['bop24_mAP']:.4f}" in (line := capsys.readouterr().out.splitlines()[1])
    assert line.endswith("mAP of detection")
    assert json.loads((tmp_path / "scores.json").read_text())["toy"]["task"] == "detection"
    report = (tmp_path / "report.html").read_text()
    assert "mAP of detection" in report and f"{100 * scores.mean:.1f}" in report
    cases = find_cases(tested.name, scores, None)
    truths = json.loads((tested.split_dir / "000001/scene_gt.json").read_text())
    first = [case.obj_id for case in cases if (case.image.scene_id, case.image.im_id) == (1, 2)]
    assert sorted(first) == sorted(entry["obj_id"] for entry in truths["2"])
    assert len(re.findall('<li class="case"', report)) == len(cases) == 10
