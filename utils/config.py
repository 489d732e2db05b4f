"""The typed configuration: the entries that a YAML file may set, and what they may be.

`config_files` reads it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from picopose.utils.downloads import weights_file
from picopose.utils.home import own_file

_WIDEST = 2048  # px or channels: larger sizes, as in a damaged file, would not fit into memory
LEVELS = ("match", "affine", "flow")  # of the paper
SCHEDULES = ("cosine", "one_cycle", "staircase")

# Training entries that may change when a run is resumed: they affect neither pairs nor losses.
FREE_TO_CHANGE = {"workers", "threads", "keep", "max_skipped", "validation_pairs", "validation_meshes"}
FREE_TO_CHANGE |= {"pretrained", "validate_on", "validate_every", "log_every", "picture_every", "save_every"}


def _check(section: Any, key: str, name: str, rule: str, holds: Callable[[Any], bool]) -> None:
    """Raises a `ValueError` unless an entry of a section is None or satisfies `holds`."""
    value = getattr(section, name)
    if value is not None and not holds(value):
        raise ValueError(f"{key}.{name} is {value}; it must {rule}")


@dataclass
class ModelConfig:
    """Arguments of `model.picopose.build.build_network`."""

    backbone: str = "vit_large_patch14_dinov2"
    # The backbone's weights: "timm" downloads them, a path reads them from a file, "scratch" draws random
    # ones, and so does None, which training refuses.
    pretrained: str | None = None
    stride: int = 16  # px, side of a patch of a convolutional backbone; DINOv2's is 14
    deep: bool = True  # whether to use maps of a convolutional backbone that are coarser than a patch, too
    size: int = 224  # side of the crops, px
    dpt_channels: list[int] = field(default_factory=lambda: [512, 1024, 1024])
    features: int = 256
    width: int = 256
    half_cell: float = 0.0  # see `model.picopose.flow.FlowDecoder`
    viewing_ray: bool = True  # see `model.picopose.affine.pose_from_similarity`

    def __post_init__(self):
        if self.pretrained:
            self.pretrained = str(own_file(self.pretrained))
        for name in ("stride", "size", "features", "width"):
            _check(self, "model", name, f"lie in 1 to {_WIDEST}", lambda value: 1 <= value <= _WIDEST)
        _check(self, "model", "width", "be a multiple of 32", lambda width: width % 32 == 0)
        fit = len(self.dpt_channels) == 3 and all(1 <= count <= _WIDEST for count in self.dpt_channels)
        _check(self, "model", "dpt_channels", f"be three numbers in 1 to {_WIDEST}", lambda _: fit)


@dataclass
class TrainDatasetConfig:
    """Which training pairs are made, and from which data."""

    data_dir: str = "data"
    megapose: list[str] = field(
        default_factory=list
    )  # gso, shapenet: sets that get equal shares of the pairs
    synthetic: float = 1.0  # share of the pairs that are rendered online; the rest is MegaPose's
    meshes: list[str] = field(default_factory=list)  # folders of meshes to render, each equally often
    shapes: float | None = None  # share of procedural shapes among the rendered objects; None: `shape_share`
    varied: float = 0.0  # share of rendered meshes that are stretched, and partly re-textured
    max_faces: int | None = None  # that meshes are simplified to; None: not at all
    resting: float = 0.0  # share of the rendered scenes in which the object rests on a table
    backgrounds: str | None = None  # folder with photos to show behind the rendered objects
    kept: str | None = None  # folder of pairs rendered by tools.keep_pairs; None: render during training
    augment: float = 0.8  # share of the real views whose colours are changed
    validation_meshes: list[str] = field(default_factory=list)  # to validate on; empty: as in training

    def __post_init__(self):
        for name in ("synthetic", "shapes", "varied", "resting", "augment"):
            _check(self, "train_dataset", name, "lie in 0 to 1", lambda share: 0 <= share <= 1)
        _check(self, "train_dataset", "max_faces", "be at least 1, or null", lambda count: count >= 1)
        if unknown := set(self.megapose) - {"gso", "shapenet"}:
            raise ValueError(f"train_dataset.megapose names {unknown.pop()}; it may hold gso and shapenet")
        if self.synthetic < 1 and not self.megapose:
            raise ValueError("train_dataset.synthetic is below 1, but train_dataset.megapose names no set")
        if len(set(self.megapose)) < len(self.megapose):
            raise ValueError("train_dataset.megapose names a set twice; name it once")
        if self.synthetic == 1 and self.megapose:
            raise ValueError(
                f"train_dataset.megapose names {self.megapose[0]}, but train_dataset.synthetic=1 leaves no "
                "pair to it; pass train_dataset.synthetic=0, or 0.5 for half of them"
            )
        if self.shape_share < 1 and self.synthetic > 0 and not self.meshes:
            raise ValueError("train_dataset.shapes is below 1, but train_dataset.meshes names no folder")
        if self.shapes == 1 and self.meshes:
            raise ValueError(
                f"train_dataset.meshes names {self.meshes[0]}, but train_dataset.shapes=1 leaves no object "
                "to it; drop one of the two, or pass train_dataset.shapes=0.5 for half of them"
            )

    @property
    def shape_share(self) -> float:
        """Share of procedural shapes among the rendered objects; unless set, half where there are meshes."""
        if self.shapes is None:
            return 0.5 if self.meshes else 1.0
        return self.shapes


@dataclass
class TrainConfig:
    """How the network is trained; the numbers are the paper's."""

    seed: int = 0
    batch_size: int = 64  # pairs per step, of all processes together
    steps: int = 400_000
    schedule: str = "cosine"  # of the learning rate, see `pipeline.training.schedule`
    warmup: int = 1000  # steps
    lr: float = 1e-5  # peak
    betas: list[float] = field(default_factory=lambda: [0.5, 0.999])
    low_beta: float | None = None  # value of the first beta at the peak of one_cycle; None: constant
    eps: float = 1e-6
    weight_decay: float = 5e-4
    clip: float = 10.0  # largest norm of the gradients
    scale_weight: float = 1.0  # of the affine level's scale in the loss
    bf16: bool = False  # for backbone, dense head and decoder, where the hardware supports it
    frozen: bool = False  # whether to freeze the layers of a convolutional backbone before its first map
    workers: int = 8  # processes that make pairs, per training process
    threads: int | None = None  # PyTorch's threads on the CPU, per process; None: its own choice
    log_every: int = 50  # steps, as are the following
    picture_every: int = 2000
    save_every: int = 1000
    validate_every: int = 5000  # 0: never
    validation_pairs: int = 256
    validate_on: list[str] = field(default_factory=list)  # BOP data sets to measure AR on
    keep: int = 3  # latest checkpoints to keep, besides the best one
    max_skipped: int = 10  # steps in 100 whose loss may be non-finite before the run ends

    def __post_init__(self):
        for name in (
            "batch_size",
            "steps",
            "log_every",
            "picture_every",
            "save_every",
            "keep",
            "max_skipped",
        ):
            _check(self, "train", name, "be at least 1", lambda count: count >= 1)
        for name in ("lr", "eps", "clip", "scale_weight"):
            _check(self, "train", name, "be positive", lambda value: value > 0)
        for name in ("seed", "warmup", "weight_decay", "workers", "validate_every", "validation_pairs"):
            _check(self, "train", name, "not be negative", lambda value: not value < 0)
        if self.validate_on and not self.validate_every:
            raise ValueError("train.validate_on names a data set, but train.validate_every is 0, never")
        fit = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        _check(self, "train", "betas", "be two numbers in 0 to 1, 1 excluded", lambda _: fit)
        _check(self, "train", "schedule", f"be one of {', '.join(SCHEDULES)}", SCHEDULES.__contains__)
        _check(self, "train", "low_beta", "lie in 0 to 1, 1 excluded", lambda beta: 0 <= beta < 1)
        if self.schedule == "one_cycle" and self.warmup >= self.steps:
            raise ValueError(f"train.warmup is {self.warmup}; one_cycle needs it below train.steps")
        if self.schedule != "one_cycle" and self.low_beta is not None:
            raise ValueError("train.low_beta is for train.schedule=one_cycle; set that, or drop it")


@dataclass
class TestDatasetConfig:
    """Where the test data are."""

    __test__ = False  # not a test class, for pytest

    data_dir: str = "data"
    detections: str | None = None  # file, or folder with one file per data set; None: beside the data set
    targets: str | None = None
    camera: str | None = None  # such as cam1, for data sets with several; None: the first, with a warning


@dataclass
class TestConfig:
    """How poses are estimated."""

    __test__ = False

    hypotheses: int = 5  # templates tried for each detection
    level: str = "flow"  # level of the paper to take the poses from: match, affine or flow
    views: int = 162  # templates per object
    threshold_px: float = 2.0  # inlier threshold of RANSAC, in pixels of the photo
    seed: int = 0
    bf16: bool | None = None  # for the backbone, see docs/performance.md; None: on GPUs only

    def __post_init__(self):
        _check(self, "test", "level", f"be one of {', '.join(LEVELS)}", LEVELS.__contains__)
        _check(self, "test", "views", "be 42, 162 or 642", (42, 162, 642).__contains__)
        if self.hypotheses < 1 or not self.threshold_px > 0:
            raise ValueError("test.hypotheses and test.threshold_px must be positive")


@dataclass
class RuntimeConfig:
    """Resources of a test run; the poses do not depend on them."""

    batch: int | None = None  # hypotheses per forward pass; None: what fits into memory
    template_memory: float = 4.0  # GB of the device for templates
    features_dir: str | None = None  # where prepared templates are kept; None: features below log_dir
    features_limit: float = 50.0  # GB on disk for them; the least recently used are removed first
    compile: bool = False  # whether to use torch.compile: slow to start

    def __post_init__(self):
        _check(self, "runtime", "batch", "be at least 1", lambda count: count >= 1)
        for name in ("template_memory", "features_limit"):
            _check(self, "runtime", name, "not be negative", lambda gigabytes: gigabytes >= 0)


@dataclass
class Config:
    """Everything that a YAML file may set."""

    method: str = "picopose"  # a folder in model/, or any module by a dotted name
    stages: list[str] = field(default_factory=list)  # of a run, in order; empty: the method's own
    options: dict[str, dict[str, Any]] = field(default_factory=dict)  # of stages, by their names
    model: ModelConfig = field(default_factory=ModelConfig)
    train_dataset: TrainDatasetConfig = field(default_factory=TrainDatasetConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    test_dataset: TestDatasetConfig = field(default_factory=TestDatasetConfig)
    test: TestConfig = field(default_factory=TestConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    checkpoint: str | None = None
    log_dir: str = "log"

    def __post_init__(self):
        self.log_dir = str(Path(self.log_dir).expanduser())
        if self.checkpoint:
            self.checkpoint = str(weights_file(self.checkpoint))


def check_range(name: str, value: float | None, least: float, most: float) -> None:
    """Raises a `ValueError` for an entry of a stage's options beyond its limits, or NaN; None is fine."""
    if value is not None and not least <= value <= most:
        raise ValueError(f"{name} is {value}; it must lie in {least:g} to {most:g}")


def unread_entries(config: Config, read: dict[str, set[str]]) -> list[str]:
    """Entries that are set although they are not among those that are read; read: names by section."""
    return [
        f"{section}.{name}"
        for section, names in read.items()
        for name, value in vars(getattr(config, section)).items()
        if name not in names and value != getattr(type(getattr(config, section))(), name)
    ]
