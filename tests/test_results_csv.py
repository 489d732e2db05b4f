"""Result files are read as the BOP challenge's checker reads them."""

import numpy as np
import pytest

from picopose.datasets.bop.results import HEADER, read_results
from picopose.utils.errors import InputError

LINE = "2,3,5,0.5,1 0 0 0 1 0 0 0 1,10.5 -20 700,0.25"


def write(tmp_path, *lines: str):
    path = tmp_path / "m_x-test.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("header", [(), (HEADER,)])
def test_fields(tmp_path, header):
    results = read_results(write(tmp_path, *header, LINE, LINE.replace("2,3,5,0.5", "-1, 4 ,6,-7e2")))
    assert results.scene_id.tolist() == [2, -1]
    assert results.im_id.tolist() == [3, 4]
    assert results.obj_id.tolist() == [5, 6]
    assert results.score.tolist() == [0.5, -700]
    expected = [[1, 0, 0, 0.0105], [0, 1, 0, -0.02], [0, 0, 1, 0.7]]
    np.testing.assert_allclose(results.cam_from_obj, [expected, expected], rtol=1e-15)
    assert results.time_per_image == 0.25


def test_the_mean_time_is_over_images(tmp_path):
    lines = [LINE, LINE.replace("0.25", "0.2509"), LINE.replace("2,3,", "2,4,").replace("0.25", "0.75")]
    assert read_results(write(tmp_path, *lines)).time_per_image == 0.5
    without = LINE.replace("0.25", "-1")
    assert read_results(write(tmp_path, *lines, without)).time_per_image == -1


def test_non_finite_numbers_are_allowed_and_a_file_may_be_empty(tmp_path):
    results = read_results(write(tmp_path, LINE.replace("700", "nan").replace("-20", "inf")))
    assert np.isnan(results.cam_from_obj[0, 2, 3]) and np.isinf(results.cam_from_obj[0, 1, 3])
    empty = read_results(write(tmp_path, HEADER))
    assert len(empty) == 0 and empty.cam_from_obj.shape == (0, 3, 4) and np.isnan(empty.time_per_image)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "a blank line"),
        (LINE + ",1", "8 comma-separated fields"),
        (LINE.replace(",0.25", ""), "6 comma-separated fields"),
        (LINE.replace("2,3", "2.0,3"), "scene_id is '2.0'"),
        (LINE.replace("2,3", "2,x"), "im_id is 'x'"),
        (LINE.replace("3,5", "3,99999999999999999999"), "obj_id"),
        (LINE.replace("0.5", "high"), "score is 'high'"),
        (LINE.replace(" 1,10.5", ",10.5"), "R has 8 numbers"),
        (LINE.replace("1 0 0 0", "1 0 0 o"), "R is 'o'"),
        (LINE.replace("10.5 ", ""), "t has 2 numbers"),
        (LINE.replace(",0.25", ",soon"), "time is 'soon'"),
        (LINE.replace(",0.25", ",0.252"), "time 0.252 s of scene 2, image 3"),
        (HEADER, "scene_id is 'scene_id'"),
    ],
)
def test_rules_are_enforced_with_the_line(tmp_path, line, message):
    path = write(tmp_path, HEADER, LINE, line, LINE)
    with pytest.raises(InputError) as error:
        read_results(path)
    assert str(error.value).startswith(f"{path}, line 3: ")
    assert message in str(error.value)


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv cannot be read"):
        read_results(tmp_path / "none.csv")
    path = tmp_path / "m.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="no text file"):
        read_results(path)
