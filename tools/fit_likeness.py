"""Computes how the detector compares cells of photos and templates: `python -m tools.fit_likeness`.

Pairs of photo and drawing, as the refiner learns from, show which directions of ImageNet's features light,
blur and small errors of a pose change, and which tell spots of objects apart. See `model.detect.likeness`.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from picopose.datasets.training.disturbed import DisturbedPairs
from picopose.datasets.training.sources import make_scenes
from picopose.model.detect.likeness import features
from picopose.model.detect.templates import CELLS
from picopose.model.drawn.crops import GREY
from picopose.model.pretrained import LIKENESS
from picopose.model.rendermatch.imagenet import ImageNetFeatures, load_imagenet
from picopose.model.rendermatch.views import SIZE
from picopose.rendering.studio import Studio
from picopose.utils.config_files import load_config
from picopose.utils.errors import exits_cleanly
from picopose.utils.files import write_atomically
from picopose.utils.records import Pair

BATCH = 32
COVERED = 0.7  # share of a cell that photo and drawing have to show of the object
RIDGE = 0.02  # of the mean variance
FLATTENED = 0.5  # power of the variances that are divided out: 0 would leave the strongest directions to rule


def fit(photo: Tensor, template: Tensor, both: Tensor, size: int) -> dict[str, Tensor]:
    """The projection and the means of `Likeness`.

    photo, template: (N, C) of cells that belong together where `both` (N,) bool is set; photos' cells of any
    kind have a share in their mean. size: of the descriptors.
    """
    photo_mean, template_mean = photo.mean(0), template[both].mean(0)
    deviation = photo.std(0)  # features of both strides count alike
    a = (photo[both] - photo_mean) / deviation
    b = (template[both] - template_mean) / deviation
    variance, axes = torch.linalg.eigh(_second_moment(a - b))
    whitening = (axes / (variance + RIDGE * variance.mean()).sqrt()).T
    signal, axes = torch.linalg.eigh(whitening @ (_second_moment(a) + _second_moment(b)) @ whitening.T)
    projection = (axes[:, -size:] / signal[-size:] ** FLATTENED).T @ whitening / deviation
    return {"projection": projection, "photo_mean": photo_mean, "template_mean": template_mean}


def _second_moment(rows: Tensor) -> Tensor:
    return rows.T @ rows / len(rows)


@torch.inference_mode()
def cells_of(network: ImageNetFeatures, pairs: Pair) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N, C) float64 of photos' and drawings' cells, and which belong together (N,) bool."""
    grey = pairs.template.rgb + GREY * ~pairs.template.mask[:, None]
    maps = [features(network, F.avg_pool2d(rgb.float(), 2)) for rgb in (pairs.real.rgb, grey)]
    shares = [F.adaptive_avg_pool2d(v.mask[:, None].float(), CELLS) for v in (pairs.real, pairs.template)]
    photo, template = (m.permute(0, 2, 3, 1).flatten(0, 2).double() for m in maps)
    return photo, template, (torch.minimum(*shares) > COVERED).flatten()


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--meshes", required=True, help="folder of meshes")
    parser.add_argument("--backgrounds", required=True, help="folder of photos")
    parser.add_argument("--pairs", type=int, default=3200)
    parser.add_argument("--size", type=int, default=96, help="of the descriptors")
    parser.add_argument("--out", type=Path, default=LIKENESS)
    options = parser.parse_args()
    data = [f"train_dataset.meshes=[{options.meshes}]", f"train_dataset.backgrounds={options.backgrounds}"]
    config = load_config("config/refine.yaml", data, {}).train_dataset
    studio = Studio(max_faces=config.max_faces)
    source = make_scenes(studio, config, size=2 * SIZE, seed=0, kind=DisturbedPairs)
    network = load_imagenet()
    parts = [
        cells_of(network, Pair.stack([source.sample(i) for i in part.tolist()]))
        for part in tqdm(torch.arange(options.pairs).split(BATCH))
    ]
    fitted = fit(*(torch.cat(values) for values in zip(*parts, strict=True)), options.size)
    with write_atomically(options.out) as temporary:
        save_file({name: values.float().contiguous() for name, values in fitted.items()}, temporary)


if __name__ == "__main__":
    main()
