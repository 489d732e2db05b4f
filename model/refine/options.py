"""What a YAML file may say of the refiner, under `options.refine`."""

from dataclasses import dataclass

from picopose.utils.config import Config, options_of
from picopose.utils.downloads import weights_file


@dataclass
class Options:
    """Entries of `options.refine`."""

    times: int = 2  # how often each pose is moved, to where the flow has its drawing
    hypotheses: int = 5  # of a detection: as many as are supported best are refined, and the others dropped
    # A checkpoint of PicoPose's network, trained as a refiner or not; None: the run's, or the refiner's own.
    weights: str | None = None

    def __post_init__(self):
        self.weights = self.weights and str(weights_file(self.weights))
        if self.times < 0:
            raise ValueError(f"times is {self.times}; it must not be negative")
        if self.hypotheses < 1:
            raise ValueError(f"hypotheses is {self.hypotheses}; it must be positive")


def read_options(config: Config) -> Options:
    return options_of(config, "refine", Options)
