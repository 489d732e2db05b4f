"""The network of a run, with the quirks that its weights were trained with."""

from dataclasses import replace
from pathlib import Path

from picopose.model.checkpoint import fit, read_checkpoint, weights_of
from picopose.model.dualposenet.network import DualPoseNet
from picopose.model.dualposenet.options import Options
from picopose.model.dualposenet.quirks import Quirks
from picopose.model.dualposenet.released import read_released
from picopose.model.dualposenet.tensorflow_checkpoint import DATA, INDEX, index_of
from picopose.utils.config_files import options_in
from picopose.utils.errors import InputError


def load_network(path: Path, options: Options) -> tuple[DualPoseNet, Quirks]:
    """The network of a checkpoint and the original's quirks that it keeps.

    Args:
        path: of a checkpoint of training here; of the released one, see `tensorflow_checkpoint.index_of`;
            or of released weights that were converted, which have no configuration with them.
        options: the run's, whose sizes released weights must have.

    Raises:
        InputError: no checkpoint, or one of another architecture; the message names the key.
    """
    if is_tensorflow(path):
        network = DualPoseNet(options.network)
        fit(network, read_released(path, network.state_dict()), path)
        return network.eval(), _kept(options, released=True)
    checkpoint = read_checkpoint(path)
    released = "config" not in checkpoint
    if not released:
        own = options_in(checkpoint["config"], "dualposenet", Options, f"{path}: its own configuration")
        options = _trained(own, options, path)
    network = DualPoseNet(options.network)
    fit(network, weights_of(checkpoint, path), path)
    return network.eval(), _kept(options, released=released)


def is_tensorflow(path: Path) -> bool:
    """Whether it names a checkpoint of TensorFlow, of which the index is a file of its own."""
    return path.name.endswith((INDEX, DATA)) or (not path.exists() and index_of(path).is_file())


def _trained(own: Options, run: Options, path: Path) -> Options:
    """The options that a network was trained with; an `InputError` where the run asks for other quirks."""
    if run.quirks is None:
        return own
    quirks = [replace(each.kept(released=False), carried_moments=False) for each in (own, run)]
    if quirks[0] != quirks[1]:
        raise InputError(
            f"{path}: trained with options.dualposenet.quirks={own.quirks}; leave the option out"
        )
    return replace(own, quirks=run.quirks)


def _kept(options: Options, *, released: bool) -> Quirks:
    """The quirks of a network; moments are carried on request alone, as results then depend on the order."""
    kept = options.kept(released=released)
    return kept if options.quirks is not None else replace(kept, carried_moments=False)
