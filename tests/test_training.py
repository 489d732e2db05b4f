"""The training loop: it learns by heart, resumes exactly, counts processes as one, and ends as it should."""

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import run_train
from picopose.datasets.training.megapose import MegaPosePairs
from picopose.model import norms
from picopose.model.checkpoint import read_checkpoint, take_up
from picopose.model.methods import learner_of
from picopose.model.picopose import learner as picopose_learner
from picopose.model.picopose.supervision import StartNoise
from picopose.pipeline.training import run as training_run
from picopose.pipeline.training.run import Run, measure
from picopose.pipeline.training.snapshots import Snapshots, read_snapshot
from picopose.utils.config import Config, ModelConfig, TrainConfig
from picopose.utils.config_files import load_config
from picopose.utils.distributed import World, join, leave
from picopose.utils.errors import InputError
from picopose.utils.records import Pair
from tests import rendered, small_shards
from tests.shared import ROOT

CPU = torch.device("cpu")
TINY = ModelConfig(
    backbone="test_byobnet",
    pretrained="scratch",
    stride=16,
    size=64,
    dpt_channels=[16, 16, 16],
    features=16,
    width=32,
)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def config_of(**options) -> Config:
    train = {"batch_size": 4, "steps": 6, "warmup": 2, "lr": 1e-3, "workers": 0, "log_every": 1}
    train |= {"save_every": 3, "validate_every": 0, "threads": 1}
    return Config(model=TINY, train=TrainConfig(**train | options))


def make_run(config: Config, folder: Path, source=None, world: World = World()) -> Run:  # noqa: B008
    learner = learner_of("picopose", config)
    learner.source = lambda *, held_out: source or rendered.RenderedPairs(size=TINY.size)
    return Run(learner, config, folder, world, CPU)


def scalars(folder: Path) -> dict[int, dict[str, float]]:
    lines = map(json.loads, (folder / "scalars.jsonl").read_text().splitlines())
    return {line["step"]: line for line in lines if "loss/total" in line}


def test_four_pairs_are_learnt_by_heart(monkeypatch: pytest.MonkeyPatch):
    """Flow error under half a pixel of a crop of 224, from the start that affine regresses."""
    no_noise, steps = StartNoise(torch.zeros(4), torch.zeros(4), torch.zeros(4, 2)), 160
    monkeypatch.setattr(picopose_learner, "draw_noise", lambda *_, **__: no_noise)
    model = ModelConfig("test_convnext", "scratch", size=128, dpt_channels=[32] * 3, features=32, width=32)
    learner = learner_of("picopose", Config(model=model))
    network, pair = learner.network.train(), rendered.batch(4, size=128)
    optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.98), weight_decay=0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1, step / 20) * (1 - step / steps)
        loss = sum(learner.losses(pair, step).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
    measures = measure(learner, [pair], CPU)
    half_px = 0.5 * 128 / 224  # in px of these smaller crops
    assert measures["flow_px"] < half_px
    assert measures["patches_matched"] > 0.98
    assert measures["certainty_right"] > 0.98
    assert measures["translation_px"] < half_px
    assert measures["angle_deg"] < 0.5 and measures["scale_log"] < 0.01


class Interrupted:
    """A source that sends its own process SIGTERM while it makes one of its pairs."""

    def __init__(self, source, index: int):
        self._source, self._index = source, index

    def sample(self, index: int) -> Pair:
        if index == self._index:
            os.kill(os.getpid(), signal.SIGTERM)
        return self._source.sample(index)

    def name(self, index: int) -> str:
        return self._source.name(index)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    run_train.train(make_run(config_of(), folder))
    return folder


def assert_same(run: Path, other: Path, *, tolerance: float) -> None:
    ours, theirs = scalars(run), scalars(other)
    assert list(ours) == list(theirs) == list(range(1, 7))
    for step, values in theirs.items():
        for name, value in values.items():
            assert ours[step][name] == pytest.approx(value, rel=tolerance, abs=tolerance), (step, name)


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_after_sigterm_equals_an_uninterrupted_run(workers: int, uninterrupted: Path, tmp_path: Path):
    """The step under way when SIGTERM comes is finished and saved; the rest of the run is the same."""
    source = Interrupted(rendered.RenderedPairs(size=TINY.size), 4 * 3 + 1)  # in the fourth step
    run_train.train(make_run(config_of(), tmp_path, source))
    snapshots = Snapshots(tmp_path, keep=3)
    assert snapshots.find("last").name == "step_00000004.pt"
    assert list(scalars(tmp_path)) == [1, 2, 3, 4]

    resumed = make_run(config_of(workers=workers), tmp_path)
    resumed.resume(snapshots.find("last"))
    run_train.train(resumed)
    assert_same(tmp_path, uninterrupted, tolerance=1e-6)
    ours, theirs = (read_checkpoint(path / "step_00000006.pt")["model"] for path in (tmp_path, uninterrupted))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-6, rtol=1e-6, msg=name)


def test_resume_from_an_earlier_checkpoint_rewrites_the_log(uninterrupted: Path, tmp_path: Path, caplog):
    """After a kill the log may be ahead of the checkpoint, and its last line cut off."""
    for name in ("step_00000003.pt", "scalars.jsonl"):
        (tmp_path / name).write_bytes((uninterrupted / name).read_bytes())
    with (tmp_path / "scalars.jsonl").open("a") as file:
        file.write('{"step": 7, "loss/to')
    damaged = b'\xff\n{"loss/total": 1}\n{"step": "x"}\n[]\n'
    (tmp_path / "scalars.jsonl").write_bytes(damaged + (tmp_path / "scalars.jsonl").read_bytes())
    run = make_run(config_of(), tmp_path)
    run.resume(run.snapshots.find("last"))
    run_train.train(run)
    assert_same(tmp_path, uninterrupted, tolerance=1e-6)
    assert "scalars.jsonl: 4 damaged lines are left out" in caplog.text


def test_last_checkpoints_and_best_are_kept(tmp_path: Path):
    options = {"save_every": 1, "keep": 2, "validate_every": 2, "validation_pairs": 8, "picture_every": 5}
    run_train.train(make_run(config_of(**options), tmp_path))
    assert torch.get_float32_matmul_precision() == "highest"  # TF32 would cost the supervision half a pixel
    names = sorted(path.name for path in tmp_path.glob("*.pt"))
    assert names == ["best.pt", "step_00000005.pt", "step_00000006.pt"]
    lines = [json.loads(line) for line in (tmp_path / "scalars.jsonl").read_text().splitlines()]
    errors = {line["step"]: line["validation/flow_px"] for line in lines if "validation/flow_px" in line}
    assert list(errors) == [2, 4, 6]
    board = EventAccumulator(str(tmp_path)).Reload()
    assert len(board.Scalars("loss/flow")) == 6
    assert [event.step for event in board.Scalars("validation/flow_px")] == [2, 4, 6]
    assert [event.step for event in board.Images("training/0")] == [5]
    best = read_checkpoint(tmp_path / "best.pt")
    assert best["step"] == min(errors, key=errors.get)
    assert best["best"] == pytest.approx(min(errors.values()))


def test_a_new_run_does_not_mix_with_an_earlier_one(uninterrupted: Path, tmp_path: Path):
    for path in uninterrupted.glob("step_*.pt"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="version_id"):
        make_run(config_of(), tmp_path).snapshots.refuse_to_begin()
    again = make_run(config_of(steps=4), tmp_path)
    again.resume(tmp_path / "step_00000003.pt")
    run_train.train(again)
    assert again.snapshots.find("last").name == "step_00000004.pt"
    assert (tmp_path / "old" / "step_00000006.pt").is_file()


def test_what_changes_no_loss_may_change_in_a_resumed_run(uninterrupted: Path, tmp_path: Path, caplog):
    checkpoint = uninterrupted / "step_00000003.pt"
    make_run(config_of(workers=2, keep=1, log_every=3), tmp_path).resume(checkpoint)
    assert not caplog.records
    changed = make_run(config_of(weight_decay=0.3, clip=1.0), tmp_path)
    changed.resume(checkpoint)
    assert "train.weight_decay, train.clip" in caplog.text
    assert [group["weight_decay"] for group in changed.optimizer.param_groups] == [0.3]


def test_pairs_to_learn_by_heart_are_in_a_batch_once():
    assert run_train.overfitting(config_of(batch_size=16), 4).train.batch_size == 4
    assert run_train.overfitting(config_of(batch_size=2), 4).train.batch_size == 2


def test_a_truncated_shard_is_trained_on_as_far_as_it_goes(tmp_path: Path, caplog):
    folder, _ = small_shards.write(tmp_path)
    tar = folder / "shard-000001.tar"
    tar.write_bytes(tar.read_bytes()[: tar.stat().st_size // 2])
    source = MegaPosePairs(tmp_path, "gso", size=TINY.size, seed=0)
    run_train.train(make_run(config_of(), tmp_path / "run", source))
    assert list(scalars(tmp_path / "run")) == [1, 2, 3, 4, 5, 6]
    assert sum("shard-000001.tar is damaged" in record.message for record in caplog.records) == 1


def two_processes(rank: int, port: int, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    run_train.train(make_run(config_of(), folder, world=join()))
    leave()


def test_two_processes_equal_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The same losses and gradients while rounding has not grown, and much the same weights at the end.

    The one process has the batch norm of several, which test_norms.py compares with PyTorch's. That rounds
    to 5e-6 on the layout that convolutions like best, and through all layers to 1e-4 of the gradient's norm.
    """
    monkeypatch.setattr(training_run, "synchronise_norms", lambda network, _: norms.synced(network))
    run_train.train(make_run(config_of(), tmp_path / "one"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(two_processes, (port, tmp_path / "two"), nprocs=2)
    two, one = scalars(tmp_path / "two"), scalars(tmp_path / "one")
    for step, tolerance in ((1, 1e-5), (2, 1e-5), (3, 1e-3)):
        assert two[step] == pytest.approx(one[step], rel=tolerance)
    assert two[6]["loss/total"] == pytest.approx(one[6]["loss/total"], rel=1e-2)
    folders = (tmp_path / "two", tmp_path / "one")
    ours, theirs = (read_checkpoint(folder / "step_00000006.pt")["model"] for folder in folders)
    assert ours.keys() == theirs.keys()
    changed = sum((ours[name].float() - value.float()).square().sum() for name, value in theirs.items())
    size = sum(value.float().square().sum() for value in theirs.values())
    assert (changed / size).sqrt() < 1e-3


class Damaged:
    """A source some of whose pairs hold a number that is not finite."""

    def __init__(self, source, bad: set[int]):
        self._source, self._bad = source, bad

    def sample(self, index: int) -> Pair:
        pair = self._source.sample(index)
        if index not in self._bad:
            return pair
        rgb = pair.real.rgb.clone()
        rgb[0, 0, 0] = math.nan
        return replace(pair, real=replace(pair.real, rgb=rgb))

    def name(self, index: int) -> str:
        return self._source.name(index)


def test_a_loss_that_is_not_finite_is_skipped_and_counted(tmp_path: Path):
    run = make_run(config_of(save_every=1), tmp_path, Damaged(rendered.RenderedPairs(size=TINY.size), {9}))
    run_train.train(run)
    values = scalars(tmp_path)
    assert [values[step]["skipped"] for step in range(1, 7)] == [0, 0, 1, 1, 1, 1]
    assert math.isnan(values[3]["loss/total"])
    assert all(math.isfinite(values[step]["loss/total"]) for step in (1, 2, 4, 5, 6))
    assert all(value.isfinite().all() for value in run.network.state_dict().values())


def test_a_skipped_step_changes_nothing(tmp_path: Path):
    run = make_run(config_of(steps=1), tmp_path, Damaged(rendered.RenderedPairs(size=TINY.size), {2}))
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    run_train.train(run)
    for name, value in run.network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_many_losses_that_are_not_finite_end_the_run_with_the_sample(tmp_path: Path):
    source = Damaged(rendered.RenderedPairs(size=TINY.size), {5, 13})
    with pytest.raises(InputError, match=r"2 of the last 4 steps.*rendered pair 13: "):
        run_train.train(make_run(config_of(max_skipped=2), tmp_path, source))


def test_a_batch_that_processes_cannot_share_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"train.batch_size=4.*multiple of the 3 processes"):
        make_run(config_of(), tmp_path, world=World(rank=0, size=3))


@pytest.mark.parametrize(("key", "value"), [("best", None), ("step", "7"), ("config", 3), ("optimizer", [])])
def test_a_checkpoint_of_something_else_is_not_gone_on_with(tmp_path: Path, key: str, value):
    whole = {"model": {}, "optimizer": {}, "step": 7, "best": math.inf, "config": ""}
    torch.save(whole, tmp_path / "whole.pt")
    assert read_snapshot(tmp_path / "whole.pt") == whole
    torch.save(whole | {key: value}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=f"holds no {key} to go on from; pass checkpoint="):
        read_snapshot(tmp_path / "other.pt")


BEGINNINGS = [
    (
        ["--config", "config/base.yaml"],
        r"option model\.pretrained: not set, and vit_large_patch14_dinov2 needs weights to begin with; pass",
    ),
    (["--config", "config/default.yaml"], "rendermatch: no method that learns; choose among dualposenet"),
    (
        ["--config", "config/lite.yaml", "model.pretrained=null"],
        "tf_efficientnet_lite0 needs weights to begin with; pass model.pretrained=timm",
    ),
    (
        ["--config", "config/lite.yaml", "model.pretrained=scratch"],
        "option train.frozen: random weights would stay",
    ),
]


@pytest.mark.parametrize(("options", "line"), BEGINNINGS)
def test_weights_that_nobody_has_named_are_not_trained(monkeypatch, capsys, options, line):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["run_train.py", "--gpus", "cpu", *options])
    with pytest.raises(SystemExit) as ended:
        run_train.main()
    assert ended.value.code == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert re.search(line, told)


@pytest.mark.parametrize(
    "options",
    [
        ["config/base.yaml", "model.pretrained=timm"],
        ["config/base.yaml", "checkpoint=weights.pt"],
        ["config/base.yaml", "--ckpt_path", "last"],
        ["config/lite.yaml"],
        ["config/lite.yaml", "model.pretrained=scratch", "train.frozen=false"],
    ],
)
def test_weights_that_are_named_or_not_wanted_are_trained(monkeypatch, options):
    monkeypatch.setattr(sys, "argv", ["run_train.py", "--config", *options])
    arguments = run_train.parse_arguments()
    config = load_config(ROOT / arguments.config, arguments.overrides)
    for name in ("build_network", "load_network"):
        monkeypatch.setattr(picopose_learner, name, MagicMock())
    learner_of("picopose", config, resumes=bool(arguments.ckpt_path))
    picopose_learner.build_network.assert_called_once()


def command(log_dir: Path, *extra: str) -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    model = ["model.backbone=test_byobnet", "model.pretrained=scratch", "model.size=64"]
    model += ["model.dpt_channels=[16,16,16]", "model.features=16", "model.width=32"]
    train = ["train.batch_size=4", "train.steps=20", "train.save_every=2", "train.log_every=1"]
    train += ["train.workers=0", "train.threads=1", "train.validate_every=0", f"log_dir={log_dir}"]
    script = [str(ROOT / "run_train.py"), "--config", str(ROOT / "config/default.yaml")]
    script += ["--model", "picopose", "--overfit", "4", "--gpus", "cpu"]
    return torchrun + script + [*extra, *model, *train]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_torchrun_survives_the_kill_of_one_process(tmp_path: Path):
    """The other process ends too, and --ckpt_path last goes on with the losses that the killed run had."""
    folder = tmp_path / "picopose_default_id0"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (tmp_path / "output").open("w") as output:
        launched = subprocess.Popen(
            command(tmp_path), cwd=ROOT, env=environment, stdout=output, stderr=output
        )
        deadline = time.monotonic() + 240
        while not list(folder.glob("step_*.pt")) and time.monotonic() < deadline and launched.poll() is None:
            time.sleep(0.1)
        assert launched.poll() is None, (tmp_path / "output").read_text()
        ranks = children(launched.pid)
        os.kill(ranks[-1], signal.SIGKILL)
        assert launched.wait(timeout=120) != 0
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)
    killed = scalars(folder)
    assert 2 <= len(killed) < 20

    resumed = subprocess.run(
        command(tmp_path, "--ckpt_path", "last"), cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "2 samples per process x 2 processes = 4 in total" in resumed.stderr
    values = scalars(folder)
    assert list(values) == list(range(1, 21))
    for step, before in killed.items():
        assert values[step]["loss/total"] == pytest.approx(before["loss/total"], rel=1e-6)


def test_a_checkpoint_is_of_the_moment_it_was_saved(tmp_path: Path):
    """Written beside the training, which goes on."""
    weights, snapshots = torch.zeros(1000), Snapshots(tmp_path, keep=2)
    with snapshots:
        for step in range(1, 4):
            content = {"model": {"w": weights}, "optimizer": {"state": [weights]}, "step": step}
            snapshots.save(content | {"best": math.inf, "config": ""})
            weights.fill_(step)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step_00000002.pt", "step_00000003.pt"]
    for step in (2, 3):
        content = read_snapshot(tmp_path / f"step_{step:08d}.pt")
        assert content["step"] == step
        assert content["model"]["w"].unique().tolist() == [step - 1]
        assert content["optimizer"]["state"][0].unique().tolist() == [step - 1]


def test_a_checkpoint_that_cannot_be_written_is_told(tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.touch()
    content = {"model": {}, "optimizer": {}, "step": 7, "best": math.inf, "config": ""}
    with pytest.raises(InputError, match=r"file cannot be made"), Snapshots(blocked, keep=2) as snapshots:
        snapshots.save(content)
    snapshots.save(content)
    with pytest.raises(InputError, match=r"file cannot be made"):
        snapshots.save(content)
    with pytest.raises(KeyError), Snapshots(blocked, keep=2) as snapshots:
        snapshots.save(content)
        raise KeyError("what ended it")


def test_an_optimizer_goes_on_with_states_of_another_layout(tmp_path: Path):
    """A checkpoint's may lie in memory otherwise than the weights, of which fused optimizers know nothing."""
    conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    other = nn.Conv2d(3, 4, 3)
    other.load_state_dict(conv.state_dict())
    optimizers = [torch.optim.AdamW(module.parameters(), lr=0.1, fused=True) for module in (conv, other)]
    image = torch.rand(1, 3, 8, 8)
    other(image).square().sum().backward()
    optimizers[1].step()
    take_up(optimizers[0], deepcopy(optimizers[1].state_dict()), tmp_path)
    conv.load_state_dict(other.state_dict())
    for module, optimizer in zip((conv, other), optimizers, strict=True):
        optimizer.zero_grad()
        module(image).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(conv.weight, other.weight)
