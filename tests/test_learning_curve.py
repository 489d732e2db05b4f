"""The learning curve puts the legs of a training one after another."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from picopose.utils.errors import InputError
from tools.pictures.__main__ import main
from tools.pictures.learning_curve import read_legs, smoothed


def leg(path: Path, steps: list[int], offset: float, *, end: str = "") -> Path:
    lines = [json.dumps({"step": step, "loss/total": offset + step, "rate": 0.1}) for step in steps]
    lines.append(json.dumps({"step": steps[-1], "validation/angle_deg": offset}))
    path.write_text("\n".join(lines) + "\n" + end)
    return path


def test_steps_of_legs_add_up(tmp_path):
    paths = [leg(tmp_path / "a.jsonl", [5, 10, 12], 0), leg(tmp_path / "b.jsonl", [5, 9], 100)]
    curves = read_legs([*paths, leg(tmp_path / "c.jsonl", [2], 200)], batch=4)
    pairs, values = curves.points["loss/total"]
    assert pairs.tolist() == [20, 40, 48, 68, 84, 92] and values.tolist() == [5, 10, 12, 105, 109, 202]
    assert curves.points["validation/angle_deg"][0].tolist() == [48, 84, 92]
    assert curves.begins == [48, 84]


def test_what_cannot_be_read_is_left_out_or_named(tmp_path):
    path = leg(tmp_path / "cut.jsonl", [1, 2], 0, end='{"step": 3, "loss/to')
    assert read_legs([path], batch=1).points["loss/total"][0].tolist() == [1, 2]
    path.write_text('{"step": 1, "loss/total": NaN}\n{"step": 2, "loss/total": 3.0}\n')
    assert read_legs([path], batch=1).points["loss/total"][0].tolist() == [2]
    for content in ("", "[1]", '{"a": 1}\n{"step": 2}', '{"step": 1, "a": "b"}', "x\n{}"):
        path.write_text(content)
        with pytest.raises(InputError, match=r"cut\.jsonl"):
            read_legs([path], batch=1)
    with pytest.raises(InputError, match=r"absent\.jsonl"):
        read_legs([tmp_path / "absent.jsonl"], batch=1)


def test_smoothing_keeps_lines_where_they_are():
    line = np.arange(20.0)
    assert np.allclose(smoothed(line, 5)[2:-2], line[2:-2])
    assert np.allclose(smoothed(np.full(7, 3.0), 5), 3) and np.allclose(smoothed(line[:1], 1), 0)


def test_the_picture_is_drawn(capsys, tmp_path):
    paths = [leg(tmp_path / f"{i}.jsonl", list(range(1, 40)), 10 * i) for i in (1, 2)]
    out = tmp_path / "docs" / "curve.png"
    main(["learning_curve", *map(str, paths), "--out", str(out), "--batch", "2"])
    assert "156 pairs in 2 leg(s)" in capsys.readouterr().out
    picture = cv2.imread(str(out))
    assert picture.shape[1] > 1000 and (picture < 128).any(axis=-1).mean() > 0.005
