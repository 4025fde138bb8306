"""Sharpness-aware minimisation (Foret et al. 2021, arXiv 2010.01412, algorithm 1) around any torch optimizer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer


class Sam:
    """Climb to the worst point within `rho`, take the gradient there, step from where the climb began.

        loss(model).backward(); sam.ascend(); loss(model).backward(); sam.descend()

    Not adaptive. Under data parallelism the gradients are already averaged when `ascend` sees them, so every process
    climbs to the same point. All work is in torch's foreach operations, without a synchronisation of the device.

    Args:
        optimizer: the base optimizer; its parameters are the ones perturbed.
        rho: radius of the climb, in parameter space.
    """

    def __init__(self, optimizer: Optimizer, rho: float = 0.05) -> None:
        self.optimizer = optimizer
        self.rho = rho
        self.origin: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def ascend(self) -> None:
        """Move by rho * gradient / (|gradient| + 1e-12), over all parameters at once, and clear the gradients."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        gradients = [p.grad for p in parameters]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        self.origin = [(p, p.clone()) for p in parameters]
        torch._foreach_mul_(gradients, self.rho / (norm + 1e-12))
        torch._foreach_add_(parameters, gradients)
        self.optimizer.zero_grad()

    @torch.no_grad()
    def descend(self) -> None:
        """Return to the start of the climb and step there with the gradient found at its end."""
        if self.origin:
            parameters, values = zip(*self.origin, strict=True)
            torch._foreach_copy_(parameters, values)
            self.origin = []
        self.optimizer.step()
        self.optimizer.zero_grad()
