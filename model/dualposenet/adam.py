"""Adam as TensorFlow 1 has it, which the original was trained and refines with."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer


class TensorFlowAdam(Optimizer):
    """Adam with "epsilon hat" (Kingma and Ba, ICLR 2015, end of section 2).

    It is added to the root of the running mean of squares before the correction for the start; torch adds
    its `eps` after it, where it weighs far less in the first steps.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, **{name: group[name] for name in ("lr", "betas", "eps")})

    def _update(self, parameter: Tensor, lr: float, betas: tuple[float, float], eps: float) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        state["mean"].lerp_(parameter.grad, 1 - betas[0])
        state["square"].mul_(betas[1]).addcmul_(parameter.grad, parameter.grad, value=1 - betas[1])
        past = [beta ** state["step"].item() for beta in betas]
        rate = lr * (1 - past[1]) ** 0.5 / (1 - past[0])
        parameter.addcdiv_(state["mean"], state["square"].sqrt().add_(eps), value=-rate)
