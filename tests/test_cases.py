"""Single cases of a scored run: which estimate stands for which instance, and how the report counts them."""

import json
import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from picopose.datasets.bop.image_result import Details
from picopose.datasets.bop.results import csv_name
from picopose.evaluation.after_run import score_run, table
from picopose.evaluation.cases import (
    Case,
    ScoredPose,
    false_estimates,
    find_cases,
    is_right,
    judgements,
    select,
)
from picopose.evaluation.eval_models import EvalModel, load_models
from picopose.evaluation.ground_truth import ImageTruth
from picopose.evaluation.report import Bin, reliability
from picopose.evaluation.scoring import score_csv
from picopose.model.picopose.flow import sample_matches
from picopose.utils.errors import InputError
from picopose.utils.geometry import cell_centres
from picopose.utils.records import Correspondences
from tests import slow_scores
from tests.scored_set import IMAGES, K, cases_of, toy_set, write_side_file, write_templates
from tests.test_report import Page
from tools.pictures import run_confidence


def test_every_target_is_one_case_with_its_own_errors(tmp_path):
    tested = toy_set(tmp_path)
    cases = cases_of(tested)
    targets = json.loads(tested.targets.read_text())
    found = [(c.image.scene_id, c.image.im_id, c.obj_id) for c in cases]
    wanted = [(t["scene_id"], t["im_id"], t["obj_id"]) for t in targets for _ in range(t["inst_count"])]
    assert sorted(found) == sorted(wanted)
    assert len({(c.image.scene_id, c.image.im_id, c.gt_id) for c in cases}) == len(cases)
    missing = [c for c in cases if c.estimate is None]
    assert [(c.image.scene_id, c.image.im_id, c.obj_id) for c in missing] == [(1, 5, 1)]
    models = load_models(tested.dataset_dir, [1, 4, 6])
    for case in cases:
        if case.estimate is None:
            continue
        model, pose = models[case.obj_id], case.estimate.cam_from_obj
        mssd = slow_scores.mssd(pose, case.truth, model.vertices, model.symmetries, model.diameter)
        mspd = slow_scores.mspd(pose, case.truth, model.vertices, model.symmetries, K)
        assert case.estimate.mssd == pytest.approx(mssd / model.diameter, abs=1e-9)
        assert case.estimate.mspd == pytest.approx(mspd, abs=1e-6)


def add_s(pose: np.ndarray, truth: np.ndarray, model: EvalModel) -> float:
    """ADD, or ADD-S of a symmetric object, in diameters: by all distances between all vertices."""
    placed, true = (slow_scores.apply(p, model.vertices) for p in (pose, truth))
    if len(model.symmetries) == 1:
        return np.linalg.norm(placed - true, axis=1).mean() / model.diameter
    return np.linalg.norm(placed[None] - true[:, None], axis=2).min(axis=1).mean() / model.diameter


def test_what_is_right_is_what_a_confidence_speaks_of(tmp_path):
    tested = toy_set(tmp_path)
    models = load_models(tested.dataset_dir, [1, 4, 6])
    found = [case for case in cases_of(tested) if case.estimate]
    assert [case.estimate.right for case in found] == [
        add_s(case.estimate.cam_from_obj, case.truth, models[case.obj_id]) < 0.1 for case in found
    ]
    truth = np.column_stack([Rotation.from_euler("xyz", [0.3, 1.1, -0.4]).as_matrix(), [10.0, -20.0, 400.0]])
    answers = set()
    for model in models.values():
        for turn in (0.0, 0.02, 0.3, np.pi):  # about z, which is no change to the symmetric ones at the end
            for shift in (0.0, 0.09, 0.11, 0.3, 1.2):  # diameters
                pose = truth.copy()
                pose[:, :3] = truth[:, :3] @ Rotation.from_euler("z", turn).as_matrix()
                pose[:, 3] += shift * model.diameter * np.array([0.6, 0.0, 0.8])
                expected = add_s(pose, truth, model) < 0.1
                assert is_right(pose, truth, model) == expected
                answers.add((model.obj_id, turn > 3 and shift == 0, expected))
    assert answers >= {
        (1, True, False),
        (4, True, True),
        (6, True, True),
        (1, False, True),
        (6, False, False),
    }
    assert not is_right(np.full((3, 4), np.nan), truth, models[1])


def judged(confidence: float | None, right: bool) -> Case:
    details = Details(confidence, 0.5, 0.5, 0, ())
    return replace(case(0, 0.5), estimate=ScoredPose(np.eye(4)[:3], 0.5, 0.5, 1.0, None, right, details))


def test_confidences_are_held_against_what_is_right():
    poses = [(0.0, False), (0.1, True), (0.19, False), (0.2, True), (0.95, True), (1.0, True), (0.8, False)]
    cases = [judged(*pose) for pose in poses]
    cases += [judged(None, True), case(1, None), case(2, 0.1)]  # not judged, not found, no side file
    first, second, last = reliability(cases)
    assert first == Bin(0.0, 0.2, 3, pytest.approx(0.29 / 3), pytest.approx(1 / 3))
    assert second == Bin(0.2, 0.4, 1, 0.2, 1.0)
    assert last == Bin(0.8, 1.0, 3, pytest.approx(2.75 / 3), pytest.approx(2 / 3))
    assert reliability(cases[7:]) == []


def test_in_detection_poses_of_nothing_count_as_wrong(tmp_path):
    """Those beyond the number of an object's instances in an image, and those of absent objects."""
    tested = toy_set(tmp_path, depth=False)
    absent = "1,2,99,0.9,1 0 0 0 1 0 0 0 1,0 0 400,1.0"  # an image without that object
    tested.csv.write_text(tested.csv.read_text() + absent + "\n")
    write_side_file(tested, confidence=0.7)
    found, there = (Counter() for _ in range(2))
    for line in tested.csv.read_text().splitlines()[1:]:
        found[tuple(map(int, line.split(",")[:3]))] += 1
    for (scene_id, im_id), obj_ids in IMAGES.items():
        there.update((scene_id, im_id, obj_id) for obj_id in obj_ids)
    scores = score_csv(tested.csv, tested.dataset_dir, task="detection")
    details = tested.details(len(scores.results))
    false = false_estimates(scores, details)
    assert len(false) == (found - there).total() > 1
    cases = find_cases("toy", scores, details)
    confidence, right = judgements(cases, false)
    assert (confidence == 0.7).all() and len(confidence) == found.total()
    assert right.sum() == sum(case.estimate.right for case in cases if case.estimate) > 0
    (bin_,) = reliability(cases, false)
    assert bin_.poses == found.total() and bin_.right == pytest.approx(right.mean())
    run_confidence.draw(tested.csv, tested.dataset_dir, "detection", tmp_path / "run.png")
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    in_localization = score_csv(tested.csv, tested.dataset_dir)
    assert false_estimates(in_localization, details) == [] and false_estimates(scores, None) == []


@pytest.mark.parametrize("confidence", [0.8, None])
def test_the_report_speaks_of_confidence_where_there_is_any(tmp_path, confidence):
    tested = toy_set(tmp_path)
    write_side_file(tested, confidence=confidence)
    score_run([tested], tmp_path, config="", template_size=56, required=True)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    found = [case for case in page.cases() if case["data-missing"] == "no"]
    told = {(case["data-confidence"], case["data-verdict"]) for case in found}
    assert told == {("0.8", "good") if confidence else ("-Infinity", "")}
    for tag, name in (("section", {"id": "confidence"}), ("select", {"data-filter": "verdict"})):
        assert len(page.all(tag, **name)) == (1 if confidence else 0)


@pytest.mark.parametrize("ratio", [0.25, 0.0])
def test_the_report_tells_which_poses_no_correspondences_were_solved_for(tmp_path, ratio):
    tested = toy_set(tmp_path)
    write_side_file(tested, inlier_ratio=ratio)
    score_run([tested], tmp_path, config="", template_size=56, required=True)
    told = (
        (tmp_path / "report.html").read_text(encoding="utf-8").count("<dt>inliers</dt><dd>0 %, coarse</dd>")
    )
    assert (told > 0) == (ratio == 0)


def case(number: int, mssd: float | None, mspd: float = 1.0) -> Case:
    image = ImageTruth(Path(), 1, number, K, 1.0, np.array([1]), np.eye(4)[None, :3], np.ones(1))
    estimate = None if mssd is None else ScoredPose(np.eye(4)[:3], 0.5, mssd, mspd, None, False, None)
    return Case("toy", image, 1, 0, estimate)


def test_the_worst_the_best_and_some_others_are_shown():
    cases = [case(i, mssd) for i, mssd in enumerate(np.random.default_rng(0).permutation(200) / 200)]
    cases[7], cases[8], cases[9] = case(7, None), case(8, np.inf, 50.0), case(9, np.inf, 60.0)
    assert [c.image.im_id for c in select(cases, worst=2, best=0, sample=0)] == [7, 9]
    chosen = select(cases, worst=10, best=5, sample=20)
    numbers = [c.image.im_id for c in chosen]
    assert len(set(numbers)) == 35 and numbers == sorted(numbers)
    order = sorted(range(200), key=lambda i: cases[i].badness)
    assert {*order[:5], *order[-10:]} <= set(numbers)
    assert [c.image.im_id for c in select(cases, worst=10, best=5, sample=20)] == numbers
    assert len(select(cases, worst=100, best=60, sample=40)) == 200


def test_nothing_unescaped_reaches_the_page(tmp_path):
    tested = toy_set(tmp_path)
    evil = 'toy"><img src=x onerror=alert(1)>&'
    renamed = replace(
        tested,
        name=evil,
        csv=tested.csv.rename(tmp_path / "a.csv"),
        dataset_dir=tested.dataset_dir.rename(tmp_path / "toy<b>"),
        split_dir=tmp_path / "toy<b>" / "test",
        targets=tmp_path / "toy<b>" / tested.targets.name,
    )
    write_side_file(renamed, phases={"<img src=x onerror=alert(2)>": 0.1, 'a"b': 0.2})
    write_templates(tmp_path, evil, 1)
    run_dir = tmp_path / "run<i onclick=alert(3)>"
    scores = score_run([renamed], run_dir, config="</pre><b>&amp;", template_size=56, required=True)
    page = Page((run_dir / "report.html").read_text(encoding="utf-8"))
    assert len(page.all("script")) == 1 and page.all("img") == page.all("i") == []
    assert {case["data-set"] for case in page.cases()} == {evil}
    assert page.text["h1"] == run_dir.name and page.text["pre"] == "</pre><b>&amp;"
    assert "<img src=x onerror=alert(2)>" in page.text["li"]
    # Object 1 has templates, the others have not.
    shown = [a for a in page.all("svg") if a.get("class") == "beside"]
    assert len(shown) == sum(c["data-object"] == "1" and c["data-missing"] == "no" for c in page.cases()) > 0
    assert list(scores) == [evil]


def test_a_side_file_of_another_result_file_is_refused(tmp_path):
    tested = toy_set(tmp_path)
    tested.csv.with_suffix(".json").write_text("[]")
    with pytest.raises(InputError, match="0 entries for"):
        cases_of(tested)


def test_sets_without_depth_are_labelled(tmp_path):
    tested = toy_set(tmp_path, depth=False)
    scores = score_run([tested], tmp_path, config="", template_size=56, required=True)
    assert "AR without VSD" in table(scores)
    assert "AR without VSD" in (tmp_path / "report.html").read_text()
    written = json.loads((tmp_path / "scores.json").read_text())["toy"]
    assert "bop19_average_recall" not in written and "bop19_average_recall_mssd" in written
    header, line = table(scores).splitlines()
    assert header.split() == ["data", "set", "AR", "AR_VSD", "AR_MSSD", "AR_MSPD", "s/image"]
    name, combined, vsd, mssd, mspd, *_ = line.split()
    assert (name, vsd) == ("toy", "-")
    assert float(combined) == pytest.approx((float(mssd) + float(mspd)) / 2, abs=1e-4)


def test_several_sets_share_one_report(tmp_path):
    sets = [toy_set(tmp_path / "a"), toy_set(tmp_path / "b", seed=1)]
    sets = [replace(tested, name=name) for tested, name in zip(sets, "ab", strict=True)]
    scores = score_run(sets, tmp_path, config="", template_size=56, required=True)
    assert list(json.loads((tmp_path / "scores.json").read_text())) == ["a", "b"]
    page = Page((tmp_path / "report.html").read_text())
    counts = [sum(case["data-set"] == name for case in page.cases()) for name in "ab"]
    targets = json.loads(sets[0].targets.read_text())
    assert counts == [sum(t["inst_count"] for t in targets)] * 2
    assert table(scores).splitlines()[-1].startswith("mean")


def test_sets_without_annotations_are_left_out_unless_demanded(tmp_path, caplog, capsys):
    tested = toy_set(tmp_path)
    absent = tested.split_dir / "000003" / "scene_gt_info.json"
    absent.unlink()
    with caplog.at_level(logging.WARNING):
        assert score_run([tested], tmp_path, config="", template_size=56) == {}
    assert str(absent) in caplog.text
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(InputError, match="scene_gt_info"):
        score_run([tested], tmp_path, config="", template_size=56, required=True)


def test_matches_are_spread_over_the_template_by_their_weight():
    generator = torch.Generator().manual_seed(0)
    side, size = 16, 64
    weight = torch.rand(3, side**2, generator=generator)
    inliers = torch.rand(3, side**2, generator=generator) < 0.5
    inliers[1] &= torch.arange(side**2) < 40  # few
    inliers[2] = False
    xy = 200 * torch.rand(3, side**2, 2, generator=generator)
    matches = Correspondences(xy=xy, xyz=torch.zeros(3, side**2, 3), weight=weight)
    photo_from_crop = torch.tensor([[0.5, 0, 10], [0, 0.5, 20], [0, 0, 1]]).repeat(3, 1, 1)
    sampled = sample_matches(matches, inliers, photo_from_crop, size=size, count=48)
    cells = cell_centres(side, size)
    for i in range(3):
        kept = sampled.weight[i] > 0
        index = torch.cdist(sampled.template[i][kept], cells).argmin(dim=1)
        assert torch.equal(cells[index], sampled.template[i][kept])
        assert len(index.unique()) == len(index) <= 48 and inliers[i][index].all()
        assert torch.equal(weight[i][index], sampled.weight[i][kept])
        torch.testing.assert_close(sampled.photo[i][kept], xy[i][index] / 2 + torch.tensor([10.0, 20.0]))
    counts = (sampled.weight > 0).sum(dim=1).tolist()
    assert counts[0] > 40 and counts[1] > 10 and counts[2] == 0
    rows = sampled.template[0][:, 1] < size / 2  # of the upper half
    share = (weight[0] * inliers[0])[: side**2 // 2].sum() / (weight[0] * inliers[0]).sum()
    assert abs(rows.float().mean() - share) < 2 / 48


def test_names_with_other_signs_are_left_out_of_result_files(tmp_path):
    tested = toy_set(tmp_path)
    folder = tested.dataset_dir.rename(tmp_path / "my_toy-2")
    csv = tested.csv.rename(tmp_path / csv_name("loops", folder.name, "test"))
    assert score_csv(csv, folder).summary["bop19_average_recall"] > 0
    with pytest.raises(InputError, match="named as a result of 'other'"):
        score_csv(csv.rename(tmp_path / "loops_other-test.csv"), folder)
