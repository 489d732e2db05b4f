"""The refiner's options: what a YAML file may set under `options.refine`."""

from dataclasses import dataclass

from picopose.utils.config import Config
from picopose.utils.config_files import options_of
from picopose.utils.downloads import weights_file


@dataclass
class Options:
    """Entries of `options.refine`."""

    times: int = 2  # how often each pose is updated from the flow
    hypotheses: int = 5  # of each detection: this many with the best support are refined, others dropped
    # A checkpoint of PicoPose's network, trained as a refiner or not; None: the run's checkpoint, if any,
    # or else the weights that come with the refiner.
    weights: str | None = None

    def __post_init__(self):
        self.weights = self.weights and str(weights_file(self.weights))
        if self.times < 0:
            raise ValueError(f"times is {self.times}; it must not be negative")
        if self.hypotheses < 1:
            raise ValueError(f"hypotheses is {self.hypotheses}; it must be positive")


def read_options(config: Config) -> Options:
    return options_of(config, "refine", Options)
