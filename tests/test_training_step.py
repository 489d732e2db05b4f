"""A training step on an emulated GPU: it copies nothing from the host and waits for next to nothing."""

from pathlib import Path

from benchmarks.emulated_gpu import GPU, EmulatedGpu
from benchmarks.launches import network_apart
from picopose.model.methods import learner_of
from picopose.pipeline.training.run import Run
from picopose.utils.distributed import World
from picopose.utils.records import Pair
from tests import rendered
from tests.test_training import TINY, config_of


def test_a_step_waits_for_nothing_that_is_under_way(tmp_path: Path):
    """But for the number of matched patches, which is known before the network has begun."""
    source, config = rendered.RenderedPairs(size=TINY.size), config_of()
    with EmulatedGpu() as gpu:
        batch = Pair.stack([source.sample(index) for index in range(4)]).to(GPU)
        learner = learner_of("picopose", config)
        learner.source = lambda *, held_out: source
        run = Run(learner, config, tmp_path, World(), GPU)
        with network_apart(gpu):
            gpu.reset()
            learner.losses(batch, 0)
            supervision = gpu.asked.kernels.total()
        run.take_step(batch, run.losses())
        gpu.reset()
        run.take_step(batch, run.losses())
    assert gpu.asked.copies.total() == 0
    assert gpu.asked.synchronisations == {"event": 1}
    assert supervision <= 400
