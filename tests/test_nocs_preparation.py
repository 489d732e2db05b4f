"""Instances are prepared once: in any number of processes, and interrupted, they end the same."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from picopose.commands import nocs as command
from picopose.datasets.nocs.instances import instances_of
from picopose.datasets.nocs.layout import list_frames
from picopose.datasets.nocs.preparation import MADE_WITH, open_prepared, prepare
from picopose.datasets.nocs.prepared import points_path, records_path
from picopose.utils.errors import InputError
from picopose.utils.files import locked
from tests.shared import ROOT, shared


def sample() -> Path:
    return shared("reference_dualposenet/sample")


def prepared(root: Path, folder: Path, **options) -> list[tuple[int, int]]:
    return list(prepare(root, "camera_train", folder, frames=1, **options))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    assert prepared(sample(), folder) == [(0, 2), (1, 2), (2, 2)]
    return folder


@pytest.fixture
def copied(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copied"))


def test_what_is_prepared_are_the_instances_of_the_frames(whole):
    ours, random = open_prepared(whole), np.random.RandomState(0)
    frames = list_frames(sample(), "camera_train").frames
    expected = [made for frame in frames for made in instances_of(frame, random)]
    assert len(ours) == len(expected) == 8
    for index, made in enumerate(expected):  # all points are inliers, so no label depends on the draws
        found = ours[index]
        assert found.class_id == made.class_id and np.array_equal(found.rgb, made.rgb)
        assert np.array_equal(found.points, made.points)
        for name in ("rotation", "translation", "size"):
            np.testing.assert_allclose(getattr(found.label, name), getattr(made.label, name), atol=1e-6)
    with pytest.raises(IndexError):
        ours[8]


def test_several_processes_prepare_the_same(whole, tmp_path):
    prepared(sample(), tmp_path, processes=2)
    assert files_of(tmp_path) == files_of(whole)


def test_a_preparation_is_gone_on_with(whole, copied):
    records_path(copied, 1).unlink()
    before = records_path(copied, 0).stat().st_mtime_ns
    with pytest.raises(InputError, match="go on with its preparation"):
        open_prepared(copied)
    assert prepared(sample(), copied) == [(1, 2), (2, 2)]
    assert files_of(copied) == files_of(whole) and records_path(copied, 0).stat().st_mtime_ns == before


KILLED = """
import sys, time
from pathlib import Path
from picopose.datasets.nocs.preparation import prepare
for done, _ in prepare(Path(sys.argv[1]), "camera_train", Path(sys.argv[2]), frames=1):
    print(done, flush=True)
    time.sleep(60 * (done == 1))
"""


def test_a_preparation_that_is_killed_ends_the_same(whole, tmp_path):
    program = [sys.executable, "-c", KILLED, str(sample()), str(tmp_path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert [process.stdout.readline() for _ in range(2)] == [b"0\n", b"1\n"]
        process.kill()
    (tmp_path / ".points-000001.0123abcd.tmp.npy").write_bytes(b"half")
    assert prepared(sample(), tmp_path) == [(1, 2), (2, 2)]
    assert files_of(tmp_path) == files_of(whole)


def test_a_folder_of_other_instances_is_refused(copied):
    with pytest.raises(InputError, match="other frames or settings"):
        prepared(sample(), copied, seed=1)
    with pytest.raises(InputError, match="other frames or settings"):
        list(prepare(sample(), "real_train", copied))


def test_a_folder_in_use_is_refused(copied):
    with locked(copied, "in use"), pytest.raises(InputError, match="another program"):
        prepared(sample(), copied)


def test_a_folder_without_instances_is_refused(tmp_path):
    with pytest.raises(InputError, match="prepare the set first"):
        open_prepared(tmp_path)
    (tmp_path / MADE_WITH).write_text("[]")
    with pytest.raises(InputError, match="no record of a preparation"):
        open_prepared(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("end", 0), ("class_id", 7), ("rotation", 2), ("translation", np.nan), ("size", -1)],
)
def test_records_that_cannot_be_are_refused(copied, name, value):
    records = np.load(records_path(copied, 0))
    records[name][1] = value
    np.save(records_path(copied, 0), records)
    with pytest.raises(InputError, match="instances that cannot be"):
        open_prepared(copied)


def test_damaged_shards_are_refused(copied):
    path = points_path(copied, 1)
    points = np.load(path)
    np.save(path, points[:-1])
    with pytest.raises(InputError, match="points, not"):
        open_prepared(copied)[7]
    points["xyz"][:] = np.inf
    np.save(path, points)
    with pytest.raises(InputError, match="not finite"):
        open_prepared(copied)[7]
    records_path(copied, 0).write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match="missing or damaged"):
        open_prepared(copied)


def test_the_command_prepares_both_sets(tmp_path, capsys):
    arguments = [str(sample()), str(tmp_path), "--processes", "1"]
    command.main(arguments)
    expected = [f"8 instances in {tmp_path}/camera_train", f"3 instances in {tmp_path}/real_train"]
    assert capsys.readouterr().out.splitlines() == expected
    with pytest.raises(SystemExit) as ended:
        command.main([*arguments, "--seed", "1"])
    assert ended.value.code == 2 and "other frames or settings" in capsys.readouterr().err
