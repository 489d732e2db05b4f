"""The scores of result files against slow loops, on a small set made here, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from picopose.commands.score import main
from picopose.datasets.bop.results import read_results
from picopose.evaluation.bop_scores import table
from picopose.evaluation.detection import object_average_precisions
from picopose.evaluation.errors import mspd, mssd
from picopose.evaluation.eval_models import load_models, symmetry_transforms
from picopose.evaluation.ground_truth import ImageTruth, load_ground_truth
from picopose.evaluation.groups import Group
from picopose.evaluation.scoring import score_csv
from picopose.utils.errors import InputError
from picopose.utils.symmetry import Symmetry
from tests import scored_set, slow_scores


@pytest.fixture(scope="module", params=range(2))
def toy(request, tmp_path_factory) -> scored_set.ScoredSet:
    return scored_set.write(tmp_path_factory.mktemp("toy"), seed=request.param)


def test_errors_equal_slow_loops(toy):
    pairs, results = score_csv(toy.csv, toy.folder).pairs, read_results(toy.csv)
    models = load_models(toy.folder, scored_set.SYMMETRIES)
    assert len(pairs.row) == 12
    for index, row in enumerate(pairs.row):
        image = int(pairs.scene_id[index]), int(pairs.im_id[index])
        obj_id, truth = toy.truths[image][pairs.gt_id[index]]
        model, estimate = models[obj_id], results.cam_from_obj[row]
        assert obj_id == pairs.obj_id[index] == results.obj_id[row]
        mssd = slow_scores.mssd(estimate, truth, model.vertices, model.symmetries, model.diameter)
        mspd = slow_scores.mspd(estimate, truth, model.vertices, model.symmetries, scored_set.K)
        assert pairs.mssd[index] == pytest.approx(mssd, rel=1e-9, abs=1e-12)
        assert pairs.mspd[index] == pytest.approx(mspd, rel=1e-9, abs=1e-9)


def test_vsd_equals_a_ray_caster(toy):
    pairs, results = score_csv(toy.csv, toy.folder, errors=["vsd"]).pairs, read_results(toy.csv)
    models = load_models(toy.folder, scored_set.SYMMETRIES)
    truth = load_ground_truth(toy.folder / "test", toy.folder / "test_targets_bop19.json", per_object=True)
    depths = {(image.scene_id, image.im_id): image.depth() for image in truth.images}
    for index in range(0, len(pairs.row), 3):  # the ray caster takes its time
        image = int(pairs.scene_id[index]), int(pairs.im_id[index])
        obj_id, true = toy.truths[image][pairs.gt_id[index]]
        estimate = results.cam_from_obj[pairs.row[index]]
        if (pairs.vsd[index] == 1).all():
            continue  # far apart; the short cut is tested with the golden files
        expected = slow_scores.vsd(estimate, true, models[obj_id], scored_set.K, depths[image], 0.015)
        np.testing.assert_allclose(pairs.vsd[index], expected, atol=5e-3)  # a few pixels of some 1000


def slow_groups(toy, truth, task):
    """(rows by falling score, gt_ids, valid) per image and object, from the rules."""
    results = read_results(toy.csv)
    for image, counts in zip(truth.images, truth.targets, strict=True):
        place = (results.scene_id == image.scene_id) & (results.im_id == image.im_id)
        for obj_id in counts if task == "localization" else sorted(set(image.obj_id.tolist())):
            rows = [int(r) for r in np.flatnonzero(place & (results.obj_id == obj_id))]
            rows.sort(key=lambda r: -results.score[r])
            gt_ids = [i for i, other in enumerate(image.obj_id) if other == obj_id]
            valid = set(gt_ids)
            if task == "localization":
                rows = rows[: counts[obj_id]]
                valid = set(sorted(gt_ids, key=lambda i: -image.visibility[i])[: counts[obj_id]])
            yield image, obj_id, rows, gt_ids, [i in valid for i in gt_ids]


def test_recalls_equal_slow_matching(toy):
    scores, results = score_csv(toy.csv, toy.folder), read_results(toy.csv)
    truth = load_ground_truth(toy.folder / "test", toy.folder / "test_targets_bop19.json", per_object=True)
    models = load_models(toy.folder, scored_set.SYMMETRIES)
    pairs = scores.pairs
    index = {(int(r), int(g)): i for i, (r, g) in enumerate(zip(pairs.row, pairs.gt_id, strict=True))}
    hits = {"vsd": np.zeros((10, 10)), "mssd": np.zeros(10), "mspd": np.zeros(10)}
    per_object, n_valid = dict.fromkeys(models, 0), 0
    for _, obj_id, rows, gt_ids, valid in slow_groups(toy, truth, "localization"):
        n_valid += sum(valid)
        ranks = results.score[rows]

        def count(values, threshold, rows=rows, gt_ids=gt_ids, ranks=ranks, valid=valid):
            table = [[values[index[r, g]] for g in gt_ids] for r in rows]
            return len(slow_scores.match(table, ranks, valid, threshold))

        for k in range(10):
            hits["mssd"][k] += count(pairs.mssd / models[obj_id].diameter, 0.05 + 0.05 * k)
            hits["mspd"][k] += count(pairs.mspd * (640 / scored_set.WIDTH), 5.0 + 5.0 * k)
            for tau in range(10):
                hits["vsd"][tau, k] += count(pairs.vsd[:, tau], 0.05 + 0.05 * k)
        per_object[obj_id] += sum(valid)
    for error, expected in hits.items():
        np.testing.assert_array_equal(scores.recalls[error], expected / n_valid)
        assert 0 < scores.recalls[error].mean() < 1
    assert {key: entry["targets"] for key, entry in scores.objects.items()} == per_object


def test_detection_equals_slow_loops(toy):
    scores, results = score_csv(toy.csv, toy.folder, task="detection"), read_results(toy.csv)
    truth = load_ground_truth(toy.folder / "test", toy.folder / "test_targets_bop24.json", per_object=False)
    pairs = scores.pairs
    index = {(int(r), int(g)): i for i, (r, g) in enumerate(zip(pairs.row, pairs.gt_id, strict=True))}
    precisions = {}
    for k in range(10):
        found = {}  # object: [(score, hit)], number of instances
        for _, obj_id, rows, gt_ids, valid in slow_groups(toy, truth, "detection"):
            table = [[pairs.mspd[index[r, g]] * 640 / scored_set.WIDTH for g in gt_ids] for r in rows]
            matched = slow_scores.match(table, results.score[rows], valid, 5.0 + 5.0 * k)
            entries, total = found.setdefault(obj_id, ([], 0))
            entries += [(results.score[r], i in matched) for i, r in enumerate(rows)]
            found[obj_id] = entries, total + len(gt_ids)
        for obj_id, (entries, total) in found.items():
            hits = [hit for _, hit in sorted(entries, key=lambda entry: -entry[0])]
            precisions.setdefault(obj_id, []).append(slow_scores.average_precision(hits, total))
    for obj_id, values in precisions.items():
        assert scores.objects[obj_id]["mspd"] == pytest.approx(np.mean(values), abs=1e-12)
    mean = np.mean([np.mean(values) for values in precisions.values()])
    assert scores.summary["bop24_mAP_mspd"] == pytest.approx(mean, abs=1e-12)


@pytest.mark.parametrize(("scores", "expected"), [([0.9, 0.8, 0.7], 1.0), ([0.9, 0.7, 0.8], 0.5)])
def test_hardly_visible_instances_count_neither_as_found_nor_as_missed(scores, expected):
    pose = np.zeros((2, 3, 4))
    image = ImageTruth(Path(), 1, 1, np.eye(3), 1.0, np.array([3, 3]), pose, np.array([0.05, 0.5]))
    rows = np.arange(3)
    group = Group(image, 3, rows, rows, np.arange(2), np.ones(2, bool))
    matches = np.array([[0], [1], [-1]])  # hardly visible, visible, false
    found = object_average_precisions([group], [matches], np.array(scores))
    assert found.keys() == {3}
    assert found[3] == pytest.approx([expected])


def test_scores_without_depth_or_with_some_errors(tmp_path):
    toy = scored_set.write(tmp_path, depth=False)
    scores = score_csv(toy.csv, toy.folder)
    assert scores.errors == ("mssd", "mspd")
    assert "bop19_average_recall" not in scores.summary
    assert "not the challenge's AR" in table(scores)
    assert score_csv(toy.csv, toy.folder, errors=["mspd"]).errors == ("mspd",)
    with pytest.raises(InputError, match=r"000002\.png not found"):
        score_csv(toy.csv, toy.folder, errors=["vsd"])
    for errors, task in ((["add"], "localization"), (["vsd"], "detection"), ([], "localization")):
        with pytest.raises(InputError, match=r"errors .*: choose from"):
            score_csv(toy.csv, toy.folder, errors=errors, task=task)


def test_command_writes_all_there_is(tmp_path, capsys):
    toy, out = scored_set.write(tmp_path), tmp_path / "deep" / "scores.json"
    arguments = ["--csv", str(toy.csv), "--dataset_dir", str(toy.folder), "--out", str(out), "--measures"]
    main(arguments)
    scores, printed = json.loads(out.read_text()), capsys.readouterr().out
    assert 0 < scores["bop19_average_recall"] < 1
    assert scores["bop19_average_time_per_image"] == pytest.approx((1 + 2.5 + 1) / 3)
    assert set(scores["objects"]) == {"1", "4", "6"} and set(scores["scenes"]) == {"1", "3"}
    assert scores["measures"]["all"]["targets"] == sum(m["targets"] for m in scores["objects"].values())
    assert f"{scores['bop19_average_recall_vsd']:.4f}" in printed and "object 4" in printed
    toy.csv.write_text("")
    main(arguments)
    scores = json.loads(out.read_text())
    assert scores["bop19_average_recall"] == 0
    assert scores["bop19_average_time_per_image"] is None and scores["measures"]["all"]["auc_add"] == 0


def test_duplicate_targets_and_foreign_lines(tmp_path):
    toy = scored_set.write(tmp_path, depth=False)
    before = score_csv(toy.csv, toy.folder)
    targets = json.loads((toy.folder / "test_targets_bop19.json").read_text())
    (toy.folder / "test_targets_bop19.json").write_text(
        json.dumps([targets[0] | {"inst_count": 7}, *targets])
    )
    first = toy.csv.read_text().splitlines()[1].split(",")
    foreign = [",".join([*ids, *first[3:6], "-1"]) for ids in (["9", "2", "1"], ["1", "2", "77"])]
    toy.csv.write_text(toy.csv.read_text() + "\n".join(foreign) + "\n")
    after = score_csv(toy.csv, toy.folder)
    np.testing.assert_array_equal(before.recalls["mssd"], after.recalls["mssd"])
    assert after.summary["bop19_average_time_per_image"] == -1


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (lambda d: shutil.rmtree(d / "models_eval"), "models_eval not found"),
        (lambda d: (d / "models_eval/models_info.json").unlink(), "models_info.json does not exist"),
        (lambda d: (d / "models_eval/models_info.json").write_text("{}"), "lists no objects"),
        (lambda d: (d / "models_eval/obj_000004.ply").unlink(), "obj_000004.ply not found"),
        (lambda d: (d / "models_eval/obj_000004.ply").write_bytes(b"ply\n"), "no PLY header"),
        (lambda d: (d / "test_targets_bop19.json").write_text("[]"), "holds no list of targets"),
        (
            lambda d: (d / "test_targets_bop19.json").write_text('[{"scene_id": 1}]'),
            "target 0 needs scene_id, im_id",
        ),
        (lambda d: (d / "test/000001/scene_gt.json").write_text("{}"), "image 2 has no list of annotated"),
        (lambda d: (d / "test/000001/scene_camera.json").write_text("[1]"), "is no table by image"),
        (lambda d: shutil.rmtree(d / "test"), "download the test images"),
        (lambda d: (d / "test/000001/depth/000002.png").write_bytes(b"x"), "000002.png cannot be read"),
    ],
)
def test_broken_data_sets_are_named(tmp_path, breakage, message):
    toy = scored_set.write(tmp_path, depth="png" in message)
    breakage(toy.folder)
    with pytest.raises(InputError, match=message):
        score_csv(toy.csv, toy.folder)


def test_result_of_another_data_set_is_refused(tmp_path):
    toy = scored_set.write(tmp_path, depth=False)
    other = toy.csv.rename(tmp_path / "loops_ycbv-test.csv")
    with pytest.raises(InputError, match="result of 'ycbv'"):
        score_csv(other, toy.folder)
    free = other.rename(tmp_path / "mine.csv")
    assert score_csv(free, toy.folder).summary["bop19_average_recall_mssd"] > 0


def test_pruning_of_symmetries_is_exact():
    rng = np.random.default_rng(3)
    vertices = rng.normal(0, 40, (400, 3))
    axis = np.array([1, 2, 3]) / np.sqrt(14), np.array([4.0, -5, 6])
    transforms = symmetry_transforms(Symmetry(np.diag([1.0, -1, -1, 1])[None], (axis,)))
    assert transforms.shape == (630, 3, 4)
    K = np.array([[500.0, 3.0, 320], [0, 510, 240], [0, 0, 1]])
    poses = np.concatenate(
        [rng.normal(0, 0.6, (12, 3, 3)), rng.normal([0, 0, 60], 30, (12, 3))[..., None]], axis=2
    )
    truths = np.roll(poses, 1, axis=0)  # no rotations, and some points behind the camera
    cameras = np.repeat(K[None], len(poses), axis=0)
    spatial = mssd(poses, truths, vertices, transforms, 1e3)
    projected = mspd(poses, truths, vertices, transforms, cameras)
    for i, (pose, truth) in enumerate(zip(poses, truths, strict=True)):
        assert spatial[i] == pytest.approx(slow_scores.mssd(pose, truth, vertices, transforms, 1e3), rel=1e-9)
        assert projected[i] == pytest.approx(slow_scores.mspd(pose, truth, vertices, transforms, K), rel=1e-9)
