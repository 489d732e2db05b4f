"""The whole test path on a small data set: files in, BOP's CSV out, and one line for what cannot be."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import trimesh

from picopose.datasets import layouts
from tests.shared import ROOT
from tests.small_bop import dump, load, run_program, write_set

SMALL = [
    "model.backbone=resnet10t",
    "model.stride=16",
    "model.size=64",
    "model.dpt_channels=[32,32,32]",
    "model.features=32",
    "model.width=32",
]
FAST = [*SMALL, "--view", "42", "--hypotheses", "2", "--gpus", "cpu"]


def failure(monkeypatch, capsys, *arguments: str) -> str:
    """The one line that a run which cannot be leaves on stderr."""
    with pytest.raises(SystemExit) as exit_info:
        run_program(monkeypatch, *arguments)
    assert exit_info.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def rows_without_time(csv: Path) -> list[str]:
    return [line.rsplit(",", 1)[0] for line in csv.read_text().splitlines()]


def arguments(toy: Path, log_dir: Path, *more: str) -> list[str]:
    return ["--dataset", "toy", f"test_dataset.data_dir={toy}", f"log_dir={log_dir}", *FAST, *more]


def test_the_csv_is_what_bop_accepts(monkeypatch, toy, log_dir):
    run_program(monkeypatch, *arguments(toy, log_dir, "--version_id", "1"))
    csv = log_dir / "picopose_base_id1" / "picopose_toy-test.csv"
    header, *rows = csv.read_text().splitlines()
    assert header == "scene_id,im_id,obj_id,score,R,t,time"
    keys = [tuple(map(int, row.split(",")[:3])) for row in rows]
    # Object 5 has no detection in image 3, so it takes the best of the image: one, as it is there once.
    assert keys == [(1, 3, 2)] * 2 + [(1, 3, 5)] + [(1, 7, 5)]
    for row in rows:
        score, rotation, translation, seconds = row.split(",")[3:]
        R = torch.tensor([float(v) for v in rotation.split()]).reshape(3, 3)
        assert torch.allclose(R @ R.T, torch.eye(3), atol=1e-4)
        assert float(translation.split()[2]) > 0
        assert 0 <= float(score) <= 1
        assert float(seconds) > 0.25
    assert len({row.rsplit(",", 1)[1] for row, key in zip(rows, keys, strict=True) if key[1] == 3}) == 1
    details = load(csv.with_suffix(".json"))
    assert [(d["scene_id"], d["im_id"], d["obj_id"]) for d in details] == keys
    assert {"detection_score", "inlier_ratio", "template"} <= details[0].keys()
    assert not list((toy / "toy").glob("templates"))  # a test run writes below log_dir only


@pytest.mark.parametrize("level", ["match", "affine"])
def test_earlier_levels_give_poses_too(monkeypatch, toy, log_dir, level):
    number = str(10 + len(level))
    run_program(monkeypatch, *arguments(toy, log_dir, "--version_id", number, "--level", level))
    details = load(log_dir / f"picopose_base_id{number}" / "picopose_toy-test.json")
    assert len(details) > 0 and {entry["inlier_ratio"] for entry in details} == {0}


def test_a_killed_run_continues_and_writes_the_same(monkeypatch, toy, log_dir):
    """Killed after the first of two images, by the operating system, with half a line written."""
    whole = arguments(toy, log_dir, "--version_id", "2")
    run_program(monkeypatch, *whole)
    run_dir = log_dir / "picopose_base_id2"
    expected = rows_without_time(run_dir / "picopose_toy-test.csv")
    (run_dir / "picopose_toy-test.csv").unlink()
    journal = next((run_dir / "toy_journal").iterdir())
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3  # fingerprint and two images
    journal.write_bytes(b"".join(lines[:2]) + lines[2][:40])
    run_program(monkeypatch, *whole)
    assert rows_without_time(run_dir / "picopose_toy-test.csv") == expected
    assert journal.read_bytes().startswith(b"".join(lines[:2]))


def test_two_processes_write_the_same_csv(toy, log_dir):
    whole = arguments(toy, log_dir)
    alone = [sys.executable, "run_test.py", *whole, "--version_id", "3"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    for command in (alone, [*launcher, "run_test.py", *whole, "--version_id", "4"]):
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    one, two = (log_dir / f"picopose_base_id{i}" / "picopose_toy-test.csv" for i in (3, 4))
    assert rows_without_time(one) == rows_without_time(two)


def test_another_configuration_does_not_mix_in(monkeypatch, capsys, toy, log_dir):
    run_program(monkeypatch, *arguments(toy, log_dir, "--version_id", "5"))
    line = failure(
        monkeypatch, capsys, *arguments(toy, log_dir, "--version_id", "5", "test.threshold_px=3.0")
    )
    assert "differs in test:" in line
    assert "version_id" in line


def rescale(mesh: Path, factor: float) -> None:
    shape = trimesh.load(mesh, process=False)
    trimesh.Trimesh(shape.vertices * factor, shape.faces, process=False).export(mesh)


def test_a_changed_mesh_does_not_mix_in(monkeypatch, capsys, tmp_path):
    """Its templates are rendered again, and the finished images of the old ones are refused."""
    folder = write_set(tmp_path)
    log_dir = tmp_path / "log"
    run_program(monkeypatch, *arguments(tmp_path, log_dir))
    poses = log_dir / "templates" / "toy" / "object_poses"
    before = {path.name: path.read_bytes() for path in poses.iterdir()}
    rescale(folder / "models" / "obj_000005.ply", 2)
    line = failure(monkeypatch, capsys, *arguments(tmp_path, log_dir))
    assert "differs in meshes or templates: name another log_dir or version_id" in line
    changed = {name for name, content in before.items() if (poses / name).read_bytes() != content}
    assert changed == {"000005.npy", "000005.sha256"}
    run_program(monkeypatch, *arguments(tmp_path, log_dir, "--version_id", "1"))


def test_templates_beside_the_data_have_the_number_asked_for(monkeypatch, capsys, tmp_path, toy):
    shutil.copytree(toy / "toy", tmp_path / "toy")
    given = arguments(tmp_path, tmp_path / "log")
    run_program(monkeypatch, *given, "--version_id", "1")
    shutil.move(tmp_path / "log" / "templates", tmp_path / "templates")
    line = failure(monkeypatch, capsys, *given, "--view", "162")
    assert "has 42 templates of object 2, but test.views is 162: set test.views=42, or render" in line
    assert f"--dataset toy --data_dir {tmp_path} --views 162" in line
    run_program(monkeypatch, *given)  # the remedy: nothing of the failed run is in its way
    assert not (tmp_path / "log" / "templates").exists()


def test_all_data_sets_are_checked_before_the_first_runs(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(layouts, "BOP_CORE", ("lmo", "tudl"))
    for name in layouts.BOP_CORE:
        write_set(tmp_path, name)
    (tmp_path / "tudl" / "detections.json").unlink()
    log_dir = tmp_path / "log"
    given = ["--dataset", "all", f"test_dataset.data_dir={tmp_path}", f"log_dir={log_dir}", *FAST]
    assert "no detections for tudl" in failure(monkeypatch, capsys, *given)
    file = tmp_path / "lmo" / "detections.json"
    line = failure(monkeypatch, capsys, *given, f"test_dataset.detections={file}")
    assert f"test_dataset.detections={file} is no folder with a file for each of lmo, tudl" in line
    assert not log_dir.exists()
    for name in layouts.BOP_CORE:
        shutil.copy(file, tmp_path / f"cnos-fastsam_{name}-test_1.json")
    run_program(monkeypatch, *given, f"test_dataset.detections={tmp_path}")
    csvs = {path.name for path in (log_dir / "picopose_base_id0").glob("*.csv")}
    assert csvs == {"picopose_lmo-test.csv", "picopose_tudl-test.csv"}


def test_annotated_images_are_scored(monkeypatch, capsys, tmp_path, log_dir):
    folder = write_set(tmp_path)
    given = arguments(tmp_path, log_dir, "--version_id", "7")
    files = [log_dir / "picopose_base_id7" / name for name in ("scores.json", "report.html")]
    line = failure(monkeypatch, capsys, *given, "--score")
    assert "scene_gt_info.json" in line and not files[0].parent.exists()  # found out before the run
    truths = load(folder / "test" / "000001" / "scene_gt.json")
    info = {key: [{"visib_fract": 1.0} for _ in poses] for key, poses in truths.items()}
    dump(folder / "test" / "000001" / "scene_gt_info.json", info)
    shutil.copytree(folder / "models", folder / "models_eval")
    run_program(monkeypatch, *given, "--no-score")
    assert "AR_MSPD" not in capsys.readouterr().out and not any(file.exists() for file in files)
    run_program(monkeypatch, *given)  # the poses are there, so this only scores them
    *_, header, line = capsys.readouterr().out.splitlines()
    assert "AR_MSPD" in header and line.startswith("toy") and "without VSD" in line
    assert load(files[0])["toy"]["objects"].keys() == {"2", "5"}
    report = files[1].read_text()
    assert "hypotheses: 2" in report and 'class="beside"' in report and report.count("<circle") > 0


def test_missing_data_set(monkeypatch, capsys, toy, log_dir):
    line = failure(monkeypatch, capsys, *arguments(toy, log_dir, "--dataset", "absent"))
    assert str(toy / "absent") in line


@pytest.mark.parametrize("form", ["{}/toy", "../{}", "..", "toy/../toy"])
def test_a_path_instead_of_a_data_set(monkeypatch, capsys, toy, log_dir, form):
    dataset = form.format(toy)
    line = failure(monkeypatch, capsys, *arguments(toy, log_dir, "--dataset", dataset))
    assert repr(dataset) in line and "test_dataset.data_dir" in line


def test_missing_detections(monkeypatch, capsys, toy, log_dir):
    line = failure(monkeypatch, capsys, *arguments(toy, log_dir, "test_dataset.detections=absent.json"))
    assert "absent.json" in line


def test_mask_of_another_size(monkeypatch, capsys, tmp_path, toy, log_dir):
    entries = load(toy / "toy" / "detections.json")
    entries[0]["segmentation"] = {"counts": [10, 5, 85], "size": [10, 10]}
    path = dump(tmp_path / "detections.json", entries)
    line = failure(
        monkeypatch, capsys, *arguments(toy, log_dir, f"test_dataset.detections={path}", "--version_id", "6")
    )
    assert f"{path}: detection 0: a mask of 10x10 px for a photo of 64x48 px" in line


@pytest.mark.parametrize(
    "override", ["test.hypotheses=many", "test.hypothesis=1", "hypotheses", "test.level=4"]
)
def test_unusable_options(monkeypatch, capsys, override):
    assert override.split("=")[0] in failure(monkeypatch, capsys, override)


def test_missing_config(monkeypatch, capsys):
    line = failure(monkeypatch, capsys, "--config", "config/absent.yaml")
    assert "config/absent.yaml" in line
    assert "config/base.yaml" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(monkeypatch, capsys):
    assert "gpus 0" in failure(monkeypatch, capsys, "--gpus", "0", *SMALL)


def test_unusable_checkpoints(monkeypatch, capsys, tmp_path):
    for name, content in (("text.ckpt", b"no checkpoint"), ("empty.ckpt", b"")):
        (tmp_path / name).write_bytes(content)
        line = failure(
            monkeypatch, capsys, "--checkpoint_path", str(tmp_path / name), *SMALL, "--dataset", "mini"
        )
        assert str(tmp_path / name) in line
    line = failure(
        monkeypatch, capsys, "--checkpoint_path", str(tmp_path / "absent.ckpt"), *SMALL, "--dataset", "mini"
    )
    assert "absent.ckpt" in line


def test_truncated_checkpoint(monkeypatch, capsys, tmp_path):
    path = tmp_path / "truncated.ckpt"
    torch.save({"model": {"weight": torch.zeros(100000)}}, path)
    path.write_bytes(path.read_bytes()[:100000])
    assert str(path) in failure(
        monkeypatch, capsys, "--checkpoint_path", str(path), *SMALL, "--dataset", "mini"
    )


def test_checkpoint_of_another_architecture(monkeypatch, capsys, tmp_path):
    path = tmp_path / "other.ckpt"
    torch.save({"model": {"weight": torch.zeros(3)}}, path)
    line = failure(monkeypatch, capsys, "--checkpoint_path", str(path), *SMALL, "--dataset", "mini")
    assert str(path) in line
    assert "affine.features.0.bias" in line


class Harmful:
    """Would write a file if it were unpickled without care."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_nothing_in_a_checkpoint_is_executed(monkeypatch, capsys, tmp_path):
    path, trace = tmp_path / "harmful.ckpt", tmp_path / "trace"
    torch.save({"state_dict": {"network.x": Harmful(trace)}}, path)
    assert str(path) in failure(
        monkeypatch, capsys, "--checkpoint_path", str(path), *SMALL, "--dataset", "mini"
    )
    assert not trace.exists()
