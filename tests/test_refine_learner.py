"""How the refiner learns, and that it takes the weights it learnt, those of PicoPose, and released ones."""

from dataclasses import replace

import pytest
import torch

from picopose.model.methods import learner_of, make_stages
from picopose.model.picopose.flow import Flow
from picopose.model.picopose.supervision import Positions
from picopose.model.refine.learner import RefineLearner, spread
from picopose.model.stage import Setup
from picopose.utils.config import Config, ModelConfig, TrainConfig, TrainDatasetConfig
from picopose.utils.config_files import load_config, to_yaml
from picopose.utils.errors import InputError
from picopose.utils.geometry import cell_centres
from picopose.utils.records import Pair
from picopose.utils.stopwatch import Stopwatch
from tests.golden import write_released_checkpoint
from tests.mini_photos import annotated, things

SIZE = 64
MODEL = ModelConfig(
    backbone="tf_efficientnet_lite0",
    deep=False,
    size=SIZE,
    dpt_channels=[32, 32, 32],
    features=32,
    width=32,
)
CONFIG = Config(
    method="refine",
    model=MODEL,
    train_dataset=TrainDatasetConfig(shapes=1.0, augment=0.5),
    train=TrainConfig(batch_size=4),
)


@pytest.fixture(scope="module")
def learner() -> RefineLearner:
    return learner_of("refine", CONFIG)


@pytest.fixture(scope="module")
def batch(learner) -> Pair:
    source = learner.source(held_out=False)
    return Pair.stack([source.sample(index) for index in range(4)])


def test_flow_and_visibility_are_learnt(learner, batch):
    optimizer = torch.optim.AdamW([p for p in learner.network.parameters() if p.requires_grad], 1e-3)
    totals = []
    for _ in range(12):
        losses = learner.losses(batch, 0)
        assert losses.keys() == {"flow", "certainty"}
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        totals.append(sum(losses.values()).item())
    assert totals[-1] < 0.8 * totals[0]
    assert all(p.grad is None for p in learner.network.affine.parameters())  # which nothing reads


def test_measures_and_pictures(learner, batch):
    with torch.no_grad():
        measures = learner.measures(batch)
    assert measures["start_px"].median() > 0.1 and measures["scale_percent"].shape == (4,)
    assert all(value.isfinite().all() for value in measures.values())
    assert [picture.shape for picture in learner.pictures(batch)] == [(3, SIZE, 3 * SIZE)] * 4


def test_a_flow_that_widens_is_seen():
    xy = cell_centres(8, SIZE)[None]
    truth = Positions(xy, torch.ones(1, 64, dtype=torch.bool), torch.ones(1, 64, dtype=torch.bool))
    offset = 0.05 * (xy - xy.mean(1)) + 3
    flow = Flow(offset.mT.unflatten(-1, (8, 8)), torch.zeros(1, 1, 8, 8))
    assert spread(flow, truth, SIZE).item() == pytest.approx(0.05)


def stage_with(config: Config):
    return make_stages(["refine"], Setup(config, torch.device("cpu"), Stopwatch(running=False)))[0]


def test_a_checkpoint_says_how_it_is_built(learner, tmp_path):
    path = tmp_path / "own.pt"
    torch.save({"model": learner.network.state_dict(), "config": to_yaml(CONFIG)}, path)
    made = stage_with(Config(options={"refine": {"weights": str(path), "times": 2}}))
    assert made.network.size == SIZE and made.times == 2
    assert stage_with(replace(Config(), checkpoint=str(path))).network.size == SIZE


def test_released_weights_serve_untrained(tmp_path):
    path = write_released_checkpoint("vits14", tmp_path / "released.ckpt")
    named = f"options.refine.weights={path}", "options.refine.times=1"
    made = stage_with(load_config("config/base.yaml", ["model.backbone=vit_small_patch14_dinov2", *named]))
    assert made.network.floored
    made.prepare(things())
    frame, found = annotated(1, 0)
    refined = made(frame, found[:1])
    assert refined.cam_from_obj.isfinite().all() and len(refined) == 1


@pytest.mark.parametrize("options", [{"times": -1}, {"time": 3}])
def test_wrong_options_are_refused(options):
    with pytest.raises(InputError, match=r"options\.refine"):
        stage_with(Config(options={"refine": options}))
