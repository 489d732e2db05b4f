"""What a YAML file may say of RNNPose, under `options.rnnpose`."""

import math
from dataclasses import dataclass, field

from picopose.model.quirks import check_names, choose_quirks
from picopose.model.rnnpose.network import Sizes
from picopose.model.rnnpose.quirks import Quirks
from picopose.utils.config import Config, check_range
from picopose.utils.config_files import options_of
from picopose.utils.home import own_file

MOST_VERTICES = 20_000
LEAST_EDGE = 0.05  # sizes of the object: below it the networks of points need minutes and GBs for a step
LARGEST_WEIGHT = 1e6


@dataclass
class Training:
    """What a network learns from; see docs/rnnpose.md."""

    object: str = ""  # its name in the data
    mesh: str | None = None  # file; None: that of the data
    photos: list[str] = field(default_factory=lambda: ["rendered"])
    noise_degrees: float = 15.0  # standard deviation of each of three angles, by which poses are off
    noise_shift: list[float] = field(default_factory=lambda: [0.01, 0.01, 0.05])  # m, camera's axes
    noise_least: float = 1.0  # share of these deviations that samples have at least; it varies up to 1
    single: int = 0  # steps at the beginning that learn from the first rendering of each sample alone
    point_weight: float = 1.0  # of the losses
    flow_weight: float = 0.5
    circle_weight: float = 1.0

    def __post_init__(self):
        if len(self.noise_shift) != 3:
            raise ValueError(f"training.noise_shift has {len(self.noise_shift)} entries; give x, y and z")
        for shift in self.noise_shift:
            check_range("training.noise_shift", shift, 0, 10)
        check_range("training.noise_degrees", self.noise_degrees, 0, 180)
        check_range("training.noise_least", self.noise_least, 0, 1)
        check_range("training.single", self.single, 0, math.inf)
        for name in ("point_weight", "flow_weight", "circle_weight"):
            check_range(f"training.{name}", getattr(self, name), 0, LARGEST_WEIGHT)


@dataclass
class Options:
    """Entries of `options.rnnpose`."""

    # A checkpoint, or a folder with one for each object; None: the run's, if that is not another method's.
    weights: str | None = None
    network: Sizes = field(default_factory=Sizes)
    # Habits of the original that are kept, by their names in `Quirks`, or all; None: all with released
    # weights, else none.
    quirks: list[str] | None = None
    # Longest edge of triangles that are not divided, in sizes of the object; None: none is.
    longest_edge: float | None = 0.1
    training: Training = field(default_factory=Training)

    def __post_init__(self):
        self.weights = self.weights and str(own_file(self.weights))
        check_range("longest_edge", self.longest_edge, LEAST_EDGE, 1)
        check_names(Quirks, self.quirks)

    def kept(self, *, released: bool) -> Quirks:
        """The quirks of a network, whose weights may be released ones."""
        return choose_quirks(Quirks, self.quirks, released=released)


def read_options(config: Config) -> Options:
    return options_of(config, "rnnpose", Options)
