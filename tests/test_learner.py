"""run_train.py trains a method from outside, on samples that are no pairs of views, and goes on with it."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import run_train
from picopose.model.checkpoint import read_checkpoint
from tests.toys.learner import LineLearner, Point, Points

BATCH = 8


def train(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> Path:
    (folder / "line.yaml").write_text(f"train: {{batch_size: {BATCH}, lr: 0.05, warmup: 1, workers: 0}}")
    flags = ["--model", "tests.toys.learner", "--config", str(folder / "line.yaml"), "--gpus", "cpu"]
    every = ["train.save_every=5", "train.validate_every=10", "train.log_every=1", f"log_dir={folder}"]
    monkeypatch.setattr(sys, "argv", ["run_train.py", *flags, *every, "train.picture_every=5", *options])
    run_train.main()
    return folder / "tests.toys.learner_line_id0"


def reference(steps: int) -> nn.Linear:
    """The same training, written out."""
    torch.manual_seed(0)
    learner, source = LineLearner(), Points(seed=0)
    network = learner.network
    optimizer = torch.optim.AdamW(network.parameters(), betas=(0.5, 0.999), eps=1e-6, weight_decay=5e-4)
    for step in range(steps):
        for group in optimizer.param_groups:
            warmup = 0.001 if step == 0 else 1.0
            group["lr"] = 0.05 * warmup * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / steps)).item())
        batch = Point.stack([source.sample(BATCH * step + i) for i in range(BATCH)])
        losses = learner.losses(batch, step)
        optimizer.zero_grad()
        (losses["square"] + losses["noisy"]).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
    return network


def test_a_method_from_outside_is_trained_saved_and_gone_on_with(monkeypatch, tmp_path):
    folder = train(monkeypatch, tmp_path, "train.steps=20")
    weights = read_checkpoint(folder / "step_00000020.pt")["model"]
    for name, value in reference(20).state_dict().items():
        torch.testing.assert_close(weights[name], value, atol=1e-6, rtol=1e-6)
    lines = [json.loads(line) for line in (folder / "scalars.jsonl").read_text().splitlines()]
    logged = {line["step"]: line for line in lines if "loss/total" in line}
    assert list(logged) == list(range(1, 21))
    for line in logged.values():
        assert line["loss/total"] == pytest.approx(line["loss/square"] + line["loss/noisy"])
    errors = {line["step"]: line["validation/error"] for line in lines if "validation/error" in line}
    assert list(errors) == [10, 20] and errors[20] < errors[10]
    assert read_checkpoint(folder / "best.pt")["best"] == errors[20]

    train(monkeypatch, tmp_path, "train.steps=20", "--ckpt_path", str(folder / "step_00000010.pt"))
    again = read_checkpoint(folder / "step_00000020.pt")["model"]
    assert all(torch.equal(again[name], value) for name, value in weights.items())
    assert (folder / "old" / "step_00000020.pt").is_file()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("nothing", "nothing: no method that learns; choose among dualposenet, picopose"),
        ("rendermatch", "rendermatch: no method that learns; choose among dualposenet, picopose"),
    ],
)
def test_a_method_that_does_not_learn_is_refused(monkeypatch, capsys, name, line):
    monkeypatch.setattr(sys, "argv", ["run_train.py", "--model", name, "--gpus", "cpu"])
    monkeypatch.chdir(Path(run_train.__file__).parent)
    with pytest.raises(SystemExit) as ended:
        run_train.main()
    assert ended.value.code == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"error: {line}")
