"""Compiles the network with torch.compile where that works."""

import logging

import torch

from picopose.model.picopose.network import PicoPose

LOG = logging.getLogger(__name__)


@torch.inference_mode()
def compile_network(network: PicoPose, *, bf16: bool = False) -> None:
    """Compiles what the network computes of crops and templates, in place; what fails stays as it is.

    Compilation happens at the first call, so every part is called here, in the precision of the run: bf16 is
    that of the backbone. What fails only later, with other sizes, runs uncompiled too.
    """
    LOG.info("compiling the network, once for this run")
    for part in (network.backbone, network.dpt, network.flow):
        part.compile(dynamic=True)
    flow = network.flow
    for method in (flow.project, flow.template_maps):
        setattr(flow, method.__name__, torch.compile(method, dynamic=True))
    try:
        _use_all(network, bf16)
    except Exception as error:  # all kinds, from a missing C++ compiler, driver or kernel
        torch.compiler.set_stance("force_eager")
        _use_all(network, bf16)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        LOG.warning("torch.compile fails here (%s); going on without it", reason)
    else:
        torch._dynamo.config.suppress_errors = True


def _use_all(network: PicoPose, bf16: bool) -> None:
    device, size = next(network.parameters()).device, network.size
    for count in (2, 3):
        maps = network.features(torch.zeros(count, 3, size, size, device=device), bf16=bf16)
        matrix = torch.eye(3, device=device).expand(count, 3, 3)
        mask = torch.ones(count, size, size, dtype=torch.bool, device=device)
        network.flow(network.dense(maps), network.template_maps(maps), mask, matrix)
