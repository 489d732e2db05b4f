"""Recall on a BOP data set while training: that of a test run, and nothing of it is left behind."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import run_test
from picopose.evaluation.in_training import BopValidation
from picopose.model.methods import learner_of
from picopose.model.picopose.learner import PicoPoseLearner
from picopose.utils.config import Config
from picopose.utils.config_files import load_config
from picopose.utils.distributed import World
from picopose.utils.errors import InputError
from tests.shared import ROOT
from tests.shipped import PICOPOSE_WEIGHTS
from tests.small_bop import dump, load, write_set
from tests.toys.learner import LineLearner


def few_images(folder: Path) -> Path:
    """A targets file with three objects in two images of each scene of the mini set."""
    targets = load(ROOT / "data/mini/test_targets_bop19.json")
    few = [target for target in targets if target["im_id"] < 2 and target["obj_id"] < 4]
    return dump(folder / "targets.json", few)


def config_of(log_dir: Path, *options: str) -> Config:
    options = (f"log_dir={log_dir}", "test.views=42", "test.hypotheses=1", *options)
    return load_config(ROOT / "config/lite.yaml", options)


def trained_learner(config: Config) -> PicoPoseLearner:
    learner = learner_of("picopose", replace(config, checkpoint=str(PICOPOSE_WEIGHTS)))
    learner.network.train()
    return learner


def test_recall_is_that_of_a_test_run(monkeypatch, tmp_path):
    options = [f"test_dataset.data_dir={ROOT / 'data'}", f"test_dataset.targets={few_images(tmp_path)}"]
    config = config_of(tmp_path, "train.validate_on=[mini]", *options)
    learner, folder = trained_learner(config), tmp_path / "validation"
    network = learner.network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    validation = BopValidation(learner, config, folder, World())
    dump(folder / "mini_journal" / "rank0.jsonl", {})  # left by a run that was killed
    recalls = validation()
    assert validation() == recalls
    assert network.training and not folder.exists()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    flags = ["--config", "config/lite.yaml", "--dataset", "mini", "--checkpoint_path", str(PICOPOSE_WEIGHTS)]
    flags += ["--gpus", "cpu", "--view", "42", "--hypotheses", "1", f"log_dir={tmp_path}", *options]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["run_test.py", *flags])
    run_test.main()
    scores = load(tmp_path / "picopose_lite_id0" / "scores.json")["mini"]
    assert scores["bop19_average_recall"] > 0.4
    # A test run folds the batch norms, so the poses differ by rounding.
    assert recalls == {"AR_mini": pytest.approx(scores["bop19_average_recall"], abs=0.02)}


def test_what_a_data_set_lacks_is_told_before_training(tmp_path):
    write_set(tmp_path)
    config = config_of(tmp_path, "train.validate_on=[toy]", f"test_dataset.data_dir={tmp_path}")
    with pytest.raises(InputError, match=r"scene_gt_info\.json"):
        BopValidation(trained_learner(config), config, tmp_path / "validation", World())


def test_a_method_that_estimates_no_poses_is_refused(tmp_path):
    config = config_of(tmp_path, "train.validate_on=[mini]", f"test_dataset.data_dir={ROOT / 'data'}")
    with pytest.raises(InputError, match=r"train\.validate_on: this method estimates no poses"):
        BopValidation(LineLearner(), config, tmp_path / "validation", World())
