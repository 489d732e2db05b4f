"""What a training run tells while it runs."""

import json
import re

import pytest

from picopose.pipeline.training.log import TrainingLog


@pytest.mark.parametrize("first_step", [0, 500])
def test_the_time_left_does_not_count_the_wait_for_the_first_batch(tmp_path, monkeypatch, capfd, first_step):
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    with TrainingLog(tmp_path, first_step=first_step, steps=1000, batch_size=4, speaks=True) as log:
        now[0] += 3600  # until the first batch is there
        log.step()
        for _ in range(20):
            now[0] += 6.0
            log.step()
    shown = re.findall(r"<([\d:?]+)", capfd.readouterr().err)
    assert shown[0] == "?"  # nothing can be known yet
    left = [sum(int(part) * 60**k for k, part in enumerate(text.split(":")[::-1])) for text in shown[1:]]
    steps = 1000 - first_step - 1
    assert len(left) >= 20
    assert min(left) >= 6 * (steps - 20) - 1 and max(left) <= 6 * steps + 1


def test_lines_that_a_kill_or_a_disk_has_damaged_are_dropped(tmp_path):
    whole = [json.dumps({"step": step, "loss/total": 1.0}) for step in (1, 2)]
    lines = [
        whole[0].encode(),
        b'{"loss": 1}',
        b"3",
        b'{"step": "x"}',
        b"\xff\x00",
        whole[1].encode(),
        b'{"st',
    ]
    (tmp_path / "scalars.jsonl").write_bytes(b"\n".join(lines))
    with TrainingLog(tmp_path, first_step=2, steps=4, batch_size=1, speaks=True) as log:
        log.scalars(3, {"loss/total": 0.5})
    assert (tmp_path / "scalars.jsonl").read_text().splitlines() == [*whole, '{"step": 3, "loss/total": 0.5}']
