"""The optimiser: Muon for kernels between features, AdamW for all other weights."""

from __future__ import annotations

import torch
from torch import nn

MOMENTUM = 0.95
RATIO = 10  # Muon's learning rate, as a multiple of AdamW's
DECAY = 0.1  # Muon's weight decay


class Muon(torch.optim.AdamW):
    """AdamW, but the chosen convolution kernels move by their momentum made orthogonal.

    kernels: the weights `(out, in, k, k)` that Muon moves; without any it is AdamW.
    learning_rate: AdamW's. Each group's is `group["ratio"]` times that one, 10 for the kernels. weight_decay: AdamW's.
    decay: the kernels' weight decay.

    A kernel's gradient, as a matrix `(out, in·k·k)`, is large in few directions. Made orthogonal it moves the weights
    equally far in all of them, and as far in every step. Without weight decay the kernels of a long training grow
    tenfold, and learn less and less. A closed tap of a masked kernel has no gradient: its column of the matrix is 0
    and stays 0. (In colour, where a tap is closed for some outputs only, what moves there is behind the mask.)
    Source: Jordan et al. 2024, Muon: An optimizer for hidden layers in neural networks, kellerjordan.github.io.
    """

    def __init__(self, weights, kernels, learning_rate: float, weight_decay: float = 0.01, decay: float = DECAY):
        chosen = {id(kernel) for kernel in kernels}
        groups = [{"params": [weight for weight in weights if id(weight) not in chosen], "ratio": 1}]
        if kernels:
            groups.append({"params": kernels, "ratio": RATIO, "weight_decay": decay})
        super().__init__(groups, lr=learning_rate, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups[1:]:
            for kernel in group["params"]:
                if kernel.grad is None:
                    continue
                state = self.state[kernel]
                if not state:  # AdamW reads the step when it loads a state
                    state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(kernel)}
                momentum = state["momentum"].lerp_(kernel.grad, 1 - MOMENTUM)
                update = orthogonal(kernel.grad.lerp(momentum, MOMENTUM).flatten(1))  # Nesterov's; (out, in·k·k)
                out, fan_in = update.shape
                kernel.mul_(1 - group["lr"] * group["weight_decay"])
                kernel.sub_(update.view(kernel.shape), alpha=group["lr"] * max(1, out / fan_in) ** 0.5)
                kernel.grad = None  # so AdamW leaves it alone
        return super().step(closure)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Nearly the nearest matrix with orthogonal rows or columns: five Newton-Schulz steps bring the singular values to
    between 0.7 and 1.2; those below a thousandth of the matrix's norm stay smaller."""
    x = matrix / (matrix.norm() + 1e-7)
    wide = len(x) <= x[0].numel()
    x = x if wide else x.T
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x if wide else x.T


def hidden_kernels(model: nn.Module) -> list[nn.Parameter]:
    """The kernels of convolutions from features to features: they neither read the image nor give the logits.

    They are told by their shape: the first convolution reads the image, and `channels · levels` outputs are logits.
    """
    kernels = [layer.weight for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    logits = getattr(model, "channels", 1) * getattr(model, "levels", 1)
    return [
        kernel for kernel in kernels
        if kernel.shape[1] > kernels[0].shape[1] and len(kernel) != logits and kernel.requires_grad
    ]  # fmt: skip
