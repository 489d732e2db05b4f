"""DualPoseNet as a stage: the original's poses from a frame and masks, refinement, and what cannot be."""

import pickle
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from picopose.datasets.nocs.test_set import NocsTestSet
from picopose.model.dualposenet.network import DualPoseNet, Sizes
from picopose.model.dualposenet.options import Options
from picopose.model.dualposenet.quirks import RELEASED
from picopose.model.dualposenet.refine import Descent
from picopose.model.dualposenet.stage import DualPoseNetStage, make_stage, refinement_of, seeded
from picopose.model.methods import of_categories
from picopose.model.stage import Setup
from picopose.pipeline.category_run import THINGS, result_of
from picopose.utils.config import Config
from picopose.utils.errors import InputError
from picopose.utils.records import Estimates, Frame
from picopose.utils.stopwatch import Stopwatch
from tests.dualposenet_golden import FOLDER, arrays, difference, released_network
from tests.shared import shared
from tests.small_nocs import write_test_set

BAR = 1e-5  # of poses and of sizes
SMALL = Sizes(side=16, channels=(2, 2, 2, 2), feature=8, explicit=(8,), implicit=(8,))


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> NocsTestSet:
    """The golden test frame with its five detections."""
    folder = tmp_path_factory.mktemp("sets")
    name = "segmentation_results/REAL275/results_test_scene_1_0000"
    shutil.copytree(shared(f"{FOLDER}/sample/Real"), folder / "sample/Real")
    with np.load(shared(f"{FOLDER}/sample/{name}.npz"), allow_pickle=False) as content:
        detected = dict(content) | {"image_path": str(content["image_path"])}
    path = folder / f"sample/{name}.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(detected, protocol=2))
    return NocsTestSet(folder, "sample")


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> NocsTestSet:
    """Frames with a mug, a part of it, and a speck of 8 px."""
    folder = tmp_path_factory.mktemp("toys")
    write_test_set(folder / "toy")
    return NocsTestSet(folder, "toy")


@pytest.fixture(scope="module")
def released() -> DualPoseNet:
    return released_network()


@pytest.fixture(scope="module")
def network() -> DualPoseNet:
    """One whose boxes are so large that no point is left out."""
    torch.manual_seed(0)
    made = DualPoseNet(SMALL).eval()
    torch.nn.init.ones_(made.explicit.size[-1].bias)
    return made


def found_in(dataset: NocsTestSet, stage: DualPoseNetStage, index: int = 0) -> Estimates:
    stage.prepare(THINGS)
    frame = dataset[index]
    return stage(frame, dataset.start(frame))


def test_results_of_the_released_test(sample, released):
    """All five detections with the original's draws, of one after the other."""
    drawn = np.random.RandomState(300)
    stage = DualPoseNetStage(released, quirks=RELEASED, batch=1, draws=lambda *_: drawn)
    frame = sample[0]
    result, golden = result_of(sample, frame, found_in(sample, stage)), arrays("test")
    assert difference(result.poses.RTs, golden["test/pred_RTs"]) < BAR
    assert difference(result.poses.scales, golden["test/pred_scales"]) < BAR


def test_all_rows_at_once_come_out_as_one_by_one(sample, released):
    one, all_rows = (found_in(sample, DualPoseNetStage(released, batch=batch)) for batch in (1, 16))
    for name in ("cam_from_obj", "size", "support"):
        torch.testing.assert_close(getattr(all_rows, name), getattr(one, name), atol=BAR, rtol=0)
    torch.testing.assert_close(all_rows.inlier_ratio, one.inlier_ratio)


def test_poses_are_rigid_and_say_what_speaks_for_them(toy, network):
    found = found_in(toy, DualPoseNetStage(network))
    R = found.cam_from_obj[:, :3, :3]
    torch.testing.assert_close(R @ R.mT, torch.eye(3).expand(3, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(3))
    assert (found.support[:2] < 0).all()
    assert (found.inlier_ratio[:2] > 0).all()
    assert (found.inlier_ratio[2], found.support[2]) == (0, -torch.inf)
    torch.testing.assert_close(found.cam_from_obj[2], torch.eye(4))
    torch.testing.assert_close(found.size[2], torch.ones(3))


def test_draws_depend_on_the_detection_and_not_on_what_came_before(toy, network):
    stage = DualPoseNetStage(network)
    alone = found_in(toy, stage, 1)
    found_in(toy, stage, 0)
    again = found_in(toy, stage, 1)
    assert torch.equal(alone.cam_from_obj, again.cam_from_obj)
    frame = Frame(torch.zeros(3, 4, 4, dtype=torch.uint8), torch.eye(3), scene_id=1, im_id=2)
    draws = [
        seeded(place, row).integers(1 << 60)
        for place in (frame, replace(frame, im_id=3), replace(frame, scene_id=2))
        for row in (0, 1)
    ]
    assert len(set(draws)) == 6


@pytest.mark.parametrize("kind", ["encoder", "feature"])
def test_a_refinement_makes_the_decoders_agree_better(toy, network, kind):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    options = Options(network=SMALL, refine=kind)
    setattr(options.descent, kind, Descent(1e-3, 5, 0.0))
    plain = found_in(toy, DualPoseNetStage(network))
    refinement = refinement_of(network, options, options.kept(released=False))
    refined = found_in(toy, DualPoseNetStage(network, refinement=refinement))
    assert (refined.support[:2] > plain.support[:2]).all()
    torch.testing.assert_close(refined.cam_from_obj[2], torch.eye(4))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_frame_without_detections_needs_no_depth(network):
    frame = Frame(torch.zeros(3, 4, 4, dtype=torch.uint8), torch.eye(3))
    assert len(DualPoseNetStage(network)(frame, Estimates.of([], []))) == 0


def test_a_frame_without_depth_is_refused(toy, network):
    frame = replace(toy[0], depth=None)
    with pytest.raises(InputError, match="dualposenet needs depth; give a depth image with each photo"):
        DualPoseNetStage(network)(frame, toy.start(frame))


def test_a_run_needs_weights():
    setup = Setup(Config(method="dualposenet"), torch.device("cpu"), Stopwatch(running=False))
    assert of_categories(setup.config)
    assert not of_categories(Config())
    with pytest.raises(InputError, match="dualposenet has no weights; pass a checkpoint"):
        make_stage(setup)


def test_moments_are_carried_on_request_alone_and_it_is_said(caplog, tmp_path, network):
    torch.save({"model": network.state_dict()}, tmp_path / "released.pt")
    own = {"network": asdict(SMALL), "refine": "feature"}
    for quirks, carried in ((None, False), (["carried_moments"], True)):
        options = {"dualposenet": own | {"quirks": quirks}}
        config = Config(checkpoint=str(tmp_path / "released.pt"), method="dualposenet", options=options)
        stage = make_stage(Setup(config, torch.device("cpu"), Stopwatch(running=False)))
        assert stage.quirks.carried_moments == stage.refinement.quirks.carried_moments == carried
        assert stage.quirks.wrapped_pole is not carried
        assert ("depends on all before it" in caplog.text) is carried


def test_the_sizes_of_a_frame_must_agree(tmp_path):
    write_test_set(tmp_path / "toy", images=1)
    path = Path(tmp_path / "toy/CAMERA/val/00000/0000_depth.png")
    shutil.copy(shared(f"{FOLDER}/sample/Real/test/scene_1/0000_depth.png"), path)
    with pytest.raises(InputError, match=r"0000_depth\.png is of another size than its photo"):
        NocsTestSet(tmp_path, "toy")[0]
