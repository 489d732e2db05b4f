"""The scores of result files against those of the official bop_toolkit."""

import functools
import gzip
import json

import numpy as np
import pytest

from picopose.commands.score import main
from picopose.datasets.bop.results import read_results
from picopose.evaluation.eval_models import load_models
from picopose.evaluation.ground_truth import GroundTruth, load_ground_truth
from picopose.evaluation.groups import Group, localization_groups
from picopose.evaluation.pair_errors import split_by_group
from picopose.evaluation.recall import THRESHOLDS, match_groups
from picopose.evaluation.scoring import score_csv
from picopose.utils.errors import InputError
from tests.shared import shared

GOLDEN = (
    *(
        f"{name}_mini-test.csv"
        for name in ("perfect", "small", "medium", "symequiv", "sweep", "mixed", "instances")
    ),
    *(
        f"{name}_mini-test.csv"
        for name in ("edge", "nonfinite", "near", "frontal", "short", "empty", "oktime")
    ),
    "noheader_mini-test_someid-1.csv",
    *(f"{name}_minib-test-primesense.csv" for name in ("perfect", "small", "medium", "symequiv", "sweep")),
)
GOLDEN_24 = (
    *(
        f"{name}_mini-test.csv"
        for name in ("base24", "fpabsent", "fppresent", "instances", "medium", "mixed")
    ),
    *("over100_mini-test.csv", "sweep_mini-test.csv", "medium_minib-test-primesense.csv"),
)
# The official renderer clips a face on its near plane there, by rounding.
NO_VSD = ("frontal_mini-test.csv",)


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads(shared("bop_golden/golden.json").read_text())["results"]


OBJECTS = (1, 2, 5, 8, 9)


@functools.cache
def score(name: str, folder: str = "csvs", **options):
    dataset, delta = ("minib", 5.0) if "minib" in name else ("mini", 15.0)
    csv = shared(f"bop_golden/{folder}/{name}")
    return score_csv(csv, shared(f"bop_golden/{dataset}"), vsd_delta=delta, **options)


def assert_errors_equal(ours: np.ndarray, official: np.ndarray):
    """Equal to 1e-9, and non-finite where the official ones are."""
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(official))
    np.testing.assert_array_equal(np.isinf(ours), np.isinf(official))
    finite = np.isfinite(official)
    np.testing.assert_allclose(ours[finite], official[finite], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", GOLDEN)
def test_localization(golden, name):
    scores, expected = score(name), golden[name]
    errors = ("mssd", "mspd") if name in NO_VSD else ("vsd", "mssd", "mspd")
    for error in errors:
        np.testing.assert_array_equal(scores.recalls[error], expected["recalls"][error])
        key = f"bop19_average_recall_{error}"
        assert scores.summary[key] == pytest.approx(expected["scores"][key], abs=1e-12)
    if name not in NO_VSD:
        key = "bop19_average_recall"
        assert scores.summary[key] == pytest.approx(expected["scores"][key], abs=1e-12)
    key = "bop19_average_time_per_image"
    assert scores.summary[key] == pytest.approx(float(expected["scores"][key]), nan_ok=True)
    assert sum(entry["targets"] for entry in scores.objects.values()) == expected["targets_count"]
    assert sum(entry["targets"] for entry in scores.scenes.values()) == expected["targets_count"]

    pairs = scores.pairs
    official = {
        (e["scene_id"], e["im_id"], e["obj_id"], e["est_id"], int(gt), e["csv_row"]): values
        for e in expected["estimates"]
        for gt, values in e["gts"].items()
    }
    keys = zip(pairs.scene_id, pairs.im_id, pairs.obj_id, pairs.est_id, pairs.gt_id, pairs.row, strict=True)
    found = [official.pop(tuple(map(int, key))) for key in keys]
    assert not official
    assert_errors_equal(1000 * pairs.mssd, np.array([float(values["mssd"]) for values in found]))
    assert_errors_equal(pairs.mspd, np.array([float(values["mspd"]) for values in found]))
    if name not in NO_VSD:
        values = np.array([values["vsd"] for values in found]).reshape(-1, 10)
        np.testing.assert_allclose(pairs.vsd, values, atol=2e-3)


def groups_of(name: str) -> tuple[GroundTruth, list[Group]]:
    folder = shared("bop_golden/" + ("minib/test_primesense" if "minib" in name else "mini/test"))
    truth = load_ground_truth(folder, folder.parent / "test_targets_bop19.json", per_object=True)
    return truth, localization_groups(read_results(shared(f"bop_golden/csvs/{name}")), truth)


@pytest.mark.parametrize("name", GOLDEN)
def test_matches_and_object_recalls(golden, name):
    official = json.loads(gzip.decompress(shared("bop_golden/golden_matches.json.gz").read_bytes()))[name]
    pairs, (truth, groups) = score(name, errors=("mssd", "mspd")).pairs, groups_of(name)
    models = load_models(shared("bop_golden/mini"), OBJECTS)
    diameters = np.array([models[o].diameter for o in pairs.obj_id.tolist()])
    normalized = {"mssd": pairs.mssd / diameters, "mspd": pairs.mspd * 640 / truth.image_width}
    for error, values in normalized.items():
        matches = match_groups(groups, split_by_group(values, groups), THRESHOLDS[error])
        for index, expected in enumerate(official[error]):
            found = matched_ids(groups, [match[:, index] for match in matches])
            assert found == set(map(tuple, expected))
            if (error, index) == ("mssd", 3):
                for obj_id in {group.obj_id for group in groups}:
                    n_valid = sum(group.n_valid for group in groups if group.obj_id == obj_id)
                    hits = sum(ids[3] == obj_id for ids in found)
                    assert hits / n_valid == golden[name]["obj_recalls_mssd_th0.2"][str(obj_id)]


def matched_ids(groups: list[Group], matches: list[np.ndarray]) -> set[tuple[int, ...]]:
    """(scene, image, instance, object, estimate) of all matches (E,) of every group."""
    return {
        tuple(map(int, (group.image.scene_id, group.image.im_id, group.gt_ids[gt], group.obj_id, est_id)))
        for group, match in zip(groups, matches, strict=True)
        for est_id, gt in zip(group.est_ids, match, strict=True)
        if gt >= 0
    }


@pytest.mark.parametrize("name", GOLDEN_24)
def test_detection(name):
    expected = json.loads(shared("bop_golden/golden_bop24.json").read_text())[name]
    scores = score(name, "csvs_bop24", task="detection")
    assert scores.summary.keys() == expected.keys()
    for key, value in expected.items():
        assert scores.summary[key] == pytest.approx(value, abs=1e-15), key


def test_symmetries_equal_the_official_ones():
    official = np.load(shared("bop_golden/sym_golden.npz"))
    for obj_id, model in load_models(shared("bop_golden/mini"), OBJECTS).items():
        in_mm = model.symmetries * [1, 1, 1, 1000]
        np.testing.assert_allclose(in_mm, official[f"obj{obj_id}"], rtol=0, atol=1e-13)


def test_megapose_on_real_photos_without_depth(capsys, tmp_path):
    csv, out = shared("bop_golden/megapose_lmo-test.csv"), tmp_path / "scores.json"
    expected = json.loads(shared("bop_golden/megapose_lmo-test.json").read_text())
    main(["--csv", str(csv), "--dataset_dir", str(shared("lmo")), "--out", str(out)])
    scores = json.loads(out.read_text())
    for error in ("mssd", "mspd"):
        key = f"bop19_average_recall_{error}"
        assert scores[key] == pytest.approx(expected[key], abs=1e-12)
        assert scores["recalls"][error] == expected["recalls"][error]
    mean = (scores["bop19_average_recall_mssd"] + scores["bop19_average_recall_mspd"]) / 2
    assert scores["average_recall_mssd_mspd"] == pytest.approx(mean, abs=1e-15)
    assert "bop19_average_recall" not in scores
    assert scores["errors"] == ["mssd", "mspd"]
    assert "MSSD and MSPD only" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "line"), [("badblank", 28), ("badcols", 3), ("badint", 3), ("badrot", 3), ("badtime", 3)]
)
def test_malformed_files_are_refused_with_the_line(kind, line, capsys):
    csv = shared(f"bop_golden/csvs/{kind}_mini-test.csv")
    with pytest.raises(InputError, match=rf"{csv.name}, line {line}: "):
        score_csv(csv, shared("bop_golden/mini"))
    with pytest.raises(SystemExit) as stop:
        main(["--csv", str(csv), "--dataset_dir", str(shared("bop_golden/mini"))])
    assert stop.value.code == 2
    assert f"line {line}: " in capsys.readouterr().err
