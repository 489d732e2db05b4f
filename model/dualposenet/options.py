"""What a YAML file may say of DualPoseNet, under `options.dualposenet`."""

import math
from dataclasses import dataclass, field

from picopose.model.dualposenet.network import Sizes
from picopose.model.dualposenet.quirks import Quirks
from picopose.model.dualposenet.refine import Descent
from picopose.model.quirks import check_names, choose_quirks
from picopose.utils.config import Config, check_range
from picopose.utils.config_files import options_of
from picopose.utils.downloads import weights_file

REFINEMENTS = ("none", "encoder", "feature")
LARGEST_WEIGHT = 1e6


@dataclass
class Augmentation:
    """How instances are changed before they are learnt from, the labels with them; 0 changes nothing."""

    turn_degrees: float = 0.0  # about the camera's axis, at most, either way
    tilt_degrees: float = 0.0  # of the camera's axis, at most
    stretch: float = 0.0  # of each side of the object's box, at most, as a share of it
    depth_noise: float = 0.0  # m, standard deviation, along the camera's axis
    cut: float = 0.0  # share of instances of which a part is cut away
    stray: float = 0.0  # share of points that lie beside the object, at most
    colour: float = 0.0  # changes of brightness, contrast and tint, at most, as shares

    def __post_init__(self):
        for name, most in (("turn_degrees", 180), ("tilt_degrees", 90), ("depth_noise", 1)):
            check_range(f"training.augmentation.{name}", getattr(self, name), 0, most)
        for name in ("stretch", "cut", "stray", "colour"):
            check_range(f"training.augmentation.{name}", getattr(self, name), 0, 1)


@dataclass
class Training:
    """What a network learns from, and how."""

    prepared: list[str] = field(default_factory=list)  # folders of prepared instances, one pool
    held_out: list[str] = field(default_factory=list)  # those to validate on
    frozen: bool = False  # whether points are drawn once, as the original does, not anew each epoch
    points: int = 1024  # that the implicit decoder sees of an instance
    # Maps are made of some of the points, at least about as many as these, or of all; None: always of all.
    fewest_points: int | None = None
    symmetric: bool = False  # whether all turns about the axis of a bottle, bowl or can are right
    rotation_weight: float = 1.0  # of the losses
    translation_weight: float = 1.0
    size_weight: float = 1.0
    implicit_weight: float = 10.0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self):
        check_range("training.points", self.points, 1, math.inf)
        check_range("training.fewest_points", self.fewest_points, 1, math.inf)
        for name in ("rotation", "translation", "size", "implicit"):
            check_range(f"training.{name}_weight", getattr(self, f"{name}_weight"), 0, LARGEST_WEIGHT)


@dataclass
class Refine:
    """How each refinement descends."""

    encoder: Descent = field(default_factory=lambda: Descent(1e-6, 30, 5e-5))
    feature: Descent = field(default_factory=lambda: Descent(3e-4, 30, 5e-5))


@dataclass
class Options:
    """Entries of `options.dualposenet`."""

    weights: str | None = None  # a checkpoint; None: the run's, if that is not another method's
    network: Sizes = field(default_factory=Sizes)
    # Habits of the original that are kept, by their names in `Quirks`, or all; None: all with released
    # weights, else none.
    quirks: list[str] | None = None
    refine: str = "none"  # until both decoders agree: none, encoder or feature
    descent: Refine = field(default_factory=Refine)
    training: Training = field(default_factory=Training)

    def __post_init__(self):
        self.weights = self.weights and str(weights_file(self.weights))
        if self.refine not in REFINEMENTS:
            raise ValueError(f"refine is {self.refine}; it must be one of {', '.join(REFINEMENTS)}")
        check_names(Quirks, self.quirks)

    def kept(self, *, released: bool) -> Quirks:
        """The quirks of a network, whose weights may be released ones."""
        return choose_quirks(Quirks, self.quirks, released=released)


def read_options(config: Config) -> Options:
    return options_of(config, "dualposenet", Options)
