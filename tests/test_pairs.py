"""Sources of training pairs and their loader: which pair comes when, whoever makes it."""

import os
import signal
import time
from itertools import chain
from multiprocessing import active_children

import numpy as np
import pytest
import torch

from picopose.datasets.training.loader import Repeated, Share, noticing_dead_workers, sample_loader
from picopose.datasets.training.pairs import Augmented, Mixture
from picopose.datasets.training.streams import stream
from picopose.utils.errors import InputError
from picopose.utils.records import Pair, View

SIZE = 8


class Numbers:
    """A source whose pairs show their index and the source's number."""

    def __init__(self, number: int = 0):
        self.number = number

    def sample(self, index: int) -> Pair:
        rng = np.random.default_rng([self.number, index])
        view = View(
            rgb=torch.from_numpy(rng.random((3, SIZE, SIZE), dtype=np.float32)),
            mask=torch.ones(SIZE, SIZE, dtype=torch.bool),
            K=torch.eye(3) * index,
            depth=torch.full((SIZE, SIZE), float(self.number)),
            cam_from_obj=torch.eye(4),
        )
        return Pair(real=view, template=view)

    def name(self, index: int) -> str:
        return f"{self.number}: {index}"


def shown(batch: Pair) -> list[int]:
    return batch.real.K[:, 0, 0].int().tolist()


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_divide_every_step(processes):
    for step in (0, 7):
        parts = [list(Share(4, rank, processes).indices(step)) for rank in range(processes)]
        whole = list(Share(4 * processes).indices(step))
        assert list(chain.from_iterable(parts)) == whole


def test_resumed_loader_goes_on_where_it_stopped():
    whole = [shown(batch) for batch in sample_loader(Numbers(), Share(3), first_step=0, steps=6, workers=0)]
    rest = [shown(batch) for batch in sample_loader(Numbers(), Share(3), first_step=4, steps=6, workers=0)]
    assert list(chain.from_iterable(whole)) == list(range(18))
    assert rest == whole[4:]


def test_worker_processes_change_nothing():
    source = Augmented(Mixture([Numbers(1), Numbers(2)], [1, 1], seed=0), seed=0)
    alone, together = (
        list(sample_loader(source, Share(2), first_step=1, steps=5, workers=workers)) for workers in (0, 2)
    )
    assert [shown(batch) for batch in together] == [[2, 3], [4, 5], [6, 7], [8, 9]]
    for a, b in zip(alone, together, strict=True):
        assert torch.equal(a.real.rgb, b.real.rgb)
        assert torch.equal(a.real.depth, b.real.depth)


class Failing(Numbers):
    """A source that has no fourth pair."""

    def __init__(self, error: Exception):
        super().__init__()
        self._error = error

    def sample(self, index: int) -> Pair:
        if index == 3:
            raise self._error
        return super().sample(index)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("error", "line"),
    [(InputError("mug.ply: mend it"), "mug.ply: mend it"), (MemoryError(), "0: 3: out of memory; lower")],
)
def test_what_is_wrong_with_a_pair_is_one_line_whoever_makes_it(workers, error, line):
    batches = sample_loader(Failing(error), Share(2), first_step=0, steps=3, workers=workers)
    assert shown(next(batches)) == [0, 1]
    with pytest.raises(InputError, match=line) as caught:
        next(batches)
    assert "\n" not in str(caught.value)


def test_a_worker_that_is_killed_is_told_with_the_remedy():
    line = r"killed by signal: Killed\).* lower train\.workers"
    with pytest.raises(InputError, match=line) as caught, noticing_dead_workers():
        batches = sample_loader(Numbers(), Share(2), first_step=0, steps=10**6, workers=1)
        next(batches)
        (worker,) = active_children()
        os.kill(worker.pid, signal.SIGKILL)
        time.sleep(30)  # the signal of its death comes in between
    assert "\n" not in str(caught.value)
    with pytest.raises(RuntimeError, match="of another kind"), noticing_dead_workers():
        raise RuntimeError("of another kind")


def test_mixture_has_its_shares_and_is_the_same_every_time():
    mixture = Mixture([Numbers(0), Numbers(1), Numbers(2)], [1, 0, 3], seed=5)
    chosen = [int(mixture.sample(index).real.depth[0, 0]) for index in range(1000)]
    assert [mixture.name(index) for index in range(1000)] == [f"{n}: {i}" for i, n in enumerate(chosen)]
    assert chosen.count(1) == 0
    assert 0.7 < chosen.count(2) / 1000 < 0.8  # 0.75; a standard deviation is 0.014


def test_colours_are_changed_as_often_whichever_the_source():
    sources = [Numbers(0), Numbers(1)]
    mixed = Augmented(Mixture(sources, [1, 1], seed=4), seed=4, share=0.5)
    changed = {0: [], 1: []}
    for index in range(600):
        view = mixed.sample(index).real
        number = int(view.depth[0, 0])
        plain = sources[number].sample(index).real.rgb
        changed[number].append(bool((view.rgb - plain).abs().max() > 0.01))
    for flags in changed.values():
        assert 0.4 < np.mean(flags) < 0.6  # 0.5, less the few changes that change nothing; deviation 0.03


def test_streams_of_one_key_and_other_purposes_are_independent():
    purposes = ("colours", "mixture", "synthetic", "megapose")
    draws = np.array([[stream(purpose, 0, i).random() for i in range(2000)] for purpose in purposes])
    assert np.abs(np.corrcoef(draws) - np.eye(len(purposes))).max() < 0.1
    assert stream("colours", 0, 1).random() == stream("colours", 0, 1).random()


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0]])
def test_mixture_refuses_weights_that_are_none(weights):
    with pytest.raises(ValueError, match="weights"):
        Mixture([Numbers(), Numbers()], weights, seed=0)


def test_repeated_source_goes_round():
    source = Repeated(Numbers(), 3)
    assert [shown(Pair.stack([source.sample(i)]))[0] for i in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert source.name(5) == "0: 2"


def test_augmentation_changes_the_photo_alone():
    source = Augmented(Numbers(), seed=3, share=1.0)
    changed = 0
    for index in range(20):
        plain, pair = Numbers().sample(index), source.sample(index)
        assert torch.equal(pair.template.rgb, plain.template.rgb)
        assert torch.equal(pair.real.depth, plain.real.depth)
        assert pair.real.rgb.shape == plain.real.rgb.shape
        assert pair.real.rgb.min() >= 0
        assert pair.real.rgb.max() <= 1
        assert torch.equal(pair.real.rgb, source.sample(index).real.rgb)
        changed += int((pair.real.rgb - plain.real.rgb).abs().max() > 0.02)
    assert changed > 10
