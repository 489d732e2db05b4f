"""Arrays in files: whole ones are read, whatever else is a ValueError, in no time and no memory."""

import resource

import numpy as np
import pytest

from picopose.utils.reading import read_array

POSES = np.arange(32.0).reshape(2, 4, 4)


@pytest.mark.parametrize("array", [POSES, np.asfortranarray(POSES), np.zeros((0, 4, 4)), np.float32(3)])
def test_whole_arrays_are_read_as_they_are(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    found = read_array(tmp_path / "a.npy")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"PK\3\4" + content,
        lambda content: content[:50],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content.replace(b"(2, 4, 4)", b"(2, 4, (("),
        lambda content: content.replace(b"'descr'", b"'discr'"),
        lambda content: content.replace(b"<f8", b"<q8"),
        lambda content: content.replace(b"(2, 4, 4), }    ", b"(17179869184,),}"),
        lambda content: content[:20] + b"\xff" + content[21:],
    ],
)
def test_damaged_arrays_are_a_value_error(tmp_path, damage):
    np.save(tmp_path / "a.npy", POSES)
    whole = (tmp_path / "a.npy").read_bytes()
    assert damage(whole) != whole
    (tmp_path / "a.npy").write_bytes(damage(whole))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError):
        read_array(tmp_path / "a.npy")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_pickled_objects_are_not_read(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="without pickled objects"):
        read_array(tmp_path / "a.npy")


def test_missing_files_are_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_array(tmp_path / "a.npy")
