"""Folds batch norms into the convolutions before them, for faster inference with the same outputs."""

from itertools import pairwise

from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

NORMS = nn.BatchNorm2d, BatchNormAct2d  # the second is timm's, with the activation inside


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Folds, in place, each batch norm that directly follows a convolution; returns the network in eval mode.

    A norm belongs to the convolution registered just before it, as in all networks here and in timm. The
    network can then no longer be trained or loaded with earlier weights.
    """
    network.eval()
    for parent in list(network.modules()):
        siblings = list(parent.named_children())
        for (first, conv), (second, norm) in pairwise(siblings):
            if isinstance(conv, nn.Conv2d) and type(norm) in NORMS and _fits(conv, norm):
                setattr(parent, first, fuse_conv_bn_eval(conv, norm))
                setattr(parent, second, norm.act if type(norm) is BatchNormAct2d else nn.Identity())
    return network


def _fits(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    return conv.out_channels == norm.num_features and norm.track_running_stats
