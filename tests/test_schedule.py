"""The schedules of the learning rate and of Adam's momentum, against PyTorch's and an original training's."""

import numpy as np
import pytest
import torch
from torch import nn

from picopose.model.checkpoint import read_checkpoint
from picopose.pipeline.training.schedule import beta_at, rate_at, set_rate
from picopose.utils.config import TrainConfig
from picopose.utils.config_files import changed_options, load_config, to_yaml
from picopose.utils.errors import InputError
from tests.shared import ROOT, shared
from tests.test_learner import BATCH, train
from tests.toys.learner import LineLearner, Point, Points


def one_cycle(**options) -> TrainConfig:
    return TrainConfig(**{"schedule": "one_cycle", "betas": [0.95, 0.99], "low_beta": 0.85} | options)


def scheduled(network: nn.Module, options: TrainConfig, **more: float):
    """PyTorch's optimizer with its own one cycle."""
    optimizer = torch.optim.AdamW(network.parameters(), betas=tuple(options.betas), **more)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=options.lr,
        total_steps=options.steps,
        pct_start=options.warmup / options.steps,
        div_factor=10,
        final_div_factor=1e4,
        base_momentum=options.low_beta,
        max_momentum=options.betas[0],
    )
    return optimizer, scheduler


def test_cosine_warms_up_and_falls_to_zero():
    options = TrainConfig(lr=1.0, warmup=1000, steps=400_000)
    assert rate_at(0, options) == pytest.approx(0.001)
    assert rate_at(500, options) == pytest.approx(0.5005, rel=1e-4)
    assert rate_at(200_000, options) == pytest.approx(0.5)
    assert rate_at(400_000, options) == pytest.approx(0)
    assert beta_at(500, options) == options.betas[0]


@pytest.mark.parametrize(("steps", "warmup"), [(2000, 20), (300, 100), (50, 2), (40, 39)])
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler")
def test_one_cycle_is_that_of_pytorch(steps, warmup):
    options, ours = one_cycle(lr=1e-4, steps=steps, warmup=warmup), nn.Linear(1, 1)
    optimizer, scheduler = scheduled(nn.Linear(1, 1), options)
    mine = torch.optim.AdamW(ours.parameters(), betas=(0.5, 0.99))
    for step in range(steps):
        set_rate(mine, step, options)
        (theirs,), (group,) = optimizer.param_groups, mine.param_groups
        assert group["lr"] == pytest.approx(theirs["lr"], rel=1e-9), step
        assert group["betas"] == pytest.approx(theirs["betas"], rel=1e-9), step
        scheduler.step() if step < steps - 1 else None


def test_one_cycle_is_that_of_an_original_training():
    with np.load(shared("reference_rnnpose/golden_train.npz")) as golden:
        steps, expected = golden["sched.steps"].tolist(), golden["sched.lr_mom"]
    options = one_cycle(lr=1e-4, steps=200_000, warmup=2000)
    rates, betas = ([at(step, options) for step in steps] for at in (rate_at, beta_at))
    assert np.abs(rates - expected[:, 0]).max() < 4e-8
    assert np.abs(betas - expected[:, 1]).max() < 4e-5


def test_the_staircase_is_that_of_an_original_training():
    with np.load(shared("reference_dualposenet/golden_network.npz")) as golden:
        steps, expected = golden["lr/step"].tolist(), golden["lr/value"]
    options = TrainConfig(schedule="staircase", lr=1e-4)
    assert [rate_at(step, options) for step in steps] == pytest.approx(expected.tolist(), rel=1e-6)
    assert beta_at(0, options) == beta_at(90_000, options) == options.betas[0]


@pytest.mark.parametrize("warmup", [0, 1])
def test_without_warm_up_one_cycle_begins_at_its_peak(warmup):
    options = one_cycle(lr=1e-4, steps=100, warmup=warmup, low_beta=None)
    assert rate_at(0, options) == pytest.approx(1e-4, rel=1e-3)
    assert rate_at(99, options) == pytest.approx(1e-9)
    assert beta_at(0, options) == beta_at(50, options) == 0.95


def test_a_training_in_one_cycle_and_its_resume_are_those_of_pytorch(monkeypatch, tmp_path):
    """With so large a decay that it is seen where it would reach the weights in another way."""
    given = ["train.schedule=one_cycle", "train.low_beta=0.6", "train.betas=[0.95,0.99]", "train.warmup=6"]
    given += ["train.weight_decay=0.5", "train.steps=20"]
    folder = train(monkeypatch, tmp_path, *given)
    torch.manual_seed(0)
    learner, source = LineLearner(), Points(seed=0)
    options = one_cycle(lr=0.05, steps=20, warmup=6, low_beta=0.6)
    optimizer, scheduler = scheduled(learner.network, options, weight_decay=0.5, eps=1e-6)
    for step in range(20):
        batch = Point.stack([source.sample(BATCH * step + i) for i in range(BATCH)])
        optimizer.zero_grad()
        sum(learner.losses(batch, step).values()).backward()
        nn.utils.clip_grad_norm_(learner.network.parameters(), 10.0)
        optimizer.step()
        scheduler.step() if step < 19 else None
    weights = read_checkpoint(folder / "step_00000020.pt")["model"]
    for name, value in learner.network.state_dict().items():
        torch.testing.assert_close(weights[name], value, atol=1e-6, rtol=1e-6)
    train(monkeypatch, tmp_path, *given, "--ckpt_path", str(folder / "step_00000010.pt"))
    again = read_checkpoint(folder / "step_00000020.pt")["model"]
    assert all(torch.equal(again[name], value) for name, value in weights.items())


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (
            ["train.schedule=linear"],
            "train.schedule is linear; it must be one of cosine, one_cycle, staircase",
        ),
        (["train.low_beta=0.85"], "train.low_beta is for train.schedule=one_cycle; set that, or drop it"),
        (["train.schedule=one_cycle", "train.low_beta=1"], "train.low_beta is 1.0; it must lie in 0 to 1"),
        (["train.schedule=one_cycle", "train.steps=5"], "train.warmup is 1000; one_cycle needs it below"),
    ],
)
def test_schedules_that_cannot_be_meant_are_refused(overrides, problem):
    with pytest.raises(InputError) as raised:
        load_config(ROOT / "config/base.yaml", overrides)
    assert problem in str(raised.value)


def test_another_schedule_is_another_training_and_an_older_file_has_had_the_default():
    config = load_config(ROOT / "config/base.yaml")
    lines = to_yaml(config).splitlines()
    older = "\n".join(line for line in lines if not line.strip().startswith(("schedule:", "low_beta:")))
    assert changed_options(older, config, "a.pt") == []
    cycled = load_config(ROOT / "config/base.yaml", ["train.schedule=one_cycle", "train.low_beta=0.4"])
    assert changed_options(older, cycled, "a.pt") == ["train.schedule", "train.low_beta"]
