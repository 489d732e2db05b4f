"""Average recalls on BOP data sets in the middle of training, as a test run would give them."""

import shutil
from dataclasses import replace
from pathlib import Path

from picopose.evaluation.after_run import check_truth, score_set
from picopose.model.best import Best
from picopose.model.learner import Learner
from picopose.model.stage import Setup
from picopose.pipeline.bop_run import open_dataset, run_dataset, tested_set, things_of
from picopose.pipeline.starts import Detected
from picopose.utils.config import Config
from picopose.utils.distributed import World
from picopose.utils.errors import InputError
from picopose.utils.stopwatch import Stopwatch


class BopValidation:
    """Measures a network on BOP data sets, by all processes together.

    Args:
        learner: has the network, and `stage(config)`, which poses are estimated by.
        config: `train.validate_on` names the data sets; `test_dataset` and `test` say where they are and how
            they are run.
        folder: for the files of a run, which do not outlive it.

    Raises:
        InputError: the method estimates no poses, or a data set lacks something, which is better told before
            training than after hours of it.
    """

    def __init__(self, learner: Learner, config: Config, folder: Path, world: World):
        names = config.train.validate_on
        if names and not hasattr(learner, "stage"):
            raise InputError("option train.validate_on: this method estimates no poses; leave it out")
        self._learner = learner
        runtime = replace(config.runtime, features_dir=str(folder / "features"))
        self._config, self._folder, self._world = replace(config, runtime=runtime, stages=[]), folder, world
        self._sets = [tested_set(name, config, folder) for name in names]
        for tested in self._sets:
            check_truth(tested)
        self._datasets = [open_dataset(tested, config) for tested in self._sets]
        self._things = [things_of(config, dataset, world) for dataset in self._datasets]

    def __call__(self) -> dict[str, float]:
        """AR by data set, empty in all processes but the first; the network is left in training mode."""
        self._clear()
        recalls, network = {}, self._learner.network
        for tested, dataset, things in zip(self._sets, self._datasets, self._things, strict=True):
            setup = Setup(self._config, next(network.parameters()).device, Stopwatch(running=False))
            stages = [self._learner.stage(self._config), Best()]
            run_dataset(tested, dataset, things, stages, Detected(dataset), setup, world=self._world)
            if self._world.rank == 0:
                recalls[f"AR_{tested.name}"] = score_set(tested).mean
        network.train()
        self._clear()
        return recalls

    def _clear(self) -> None:
        """Removes the files of a run, perhaps of one that was killed."""
        self._world.barrier()
        if self._world.rank == 0:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._world.barrier()
