"""What every regimen shares in its loop: options, batches, learning rate, device and precision."""

import contextlib
import math
import os
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from hardness.dynamics import Diverged


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """What an experiment file says under ``train:``.

    Args:
        max_epochs: Passes over the training samples.
        batch_size: Samples a step.
        optimizer: ``sgd`` with Nesterov momentum, or ``adamw``.
        lr: Peak learning rate.
        momentum: Of ``sgd``.
        weight_decay: As the optimizer defines it: added to the gradient by ``sgd``, decoupled by
            ``adamw``.
        schedule: ``cosine`` to zero, ``one_cycle`` (30 % rising) or ``constant``, by step.
        precision: ``f32``, or ``bf16`` autocast; scores are computed in float64 either way.
        compile: Compile the network with ``torch.compile``.
        threads: CPU threads; other counts give other bits.
        deterministic: Refuse operations that may give other bits on a second run; left out, true
            on a CPU and false on a GPU, where it costs speed.

    Raises:
        ValueError: If a number is out of range.
    """

    max_epochs: int = 30
    batch_size: int = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "one_cycle", "constant"] = "cosine"
    precision: Literal["f32", "bf16"] = "f32"
    compile: bool = False
    threads: int = 1
    deterministic: bool | None = None

    def __post_init__(self) -> None:
        for name in ("max_epochs", "batch_size", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1; came {getattr(self, name)}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"lr: expected a positive number; came {self.lr}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay: expected 0 or more; came {self.weight_decay}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum: expected a number in [0, 1); came {self.momentum}")


def prepare(options: TrainOptions, device: torch.device) -> None:
    """Make this process compute the same bits whatever ran in it before.

    Has to be called in the thread that trains, since thread counts belong to threads.
    """
    deterministic = options.deterministic
    if deterministic is None:
        deterministic = device.type == "cpu"
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic


def optimizer(network: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    """The optimizer over all of a network's parameters."""
    if options.optimizer == "adamw":
        return torch.optim.AdamW(
            network.parameters(), lr=options.lr, weight_decay=options.weight_decay
        )
    return torch.optim.SGD(
        network.parameters(),
        lr=options.lr,
        momentum=options.momentum,
        nesterov=options.momentum > 0,
        weight_decay=options.weight_decay,
    )


def learning_rate(step: int, steps: int, options: TrainOptions) -> float:
    """Learning rate of a step, a closed form, so that a resume needs no scheduler state.

    Agrees with torch's ``CosineAnnealingLR`` and, momentum cycling apart, ``OneCycleLR``.

    Args:
        step: 0-based, over all epochs.
        steps: How many there are in all.
        options: Peak and schedule.
    """
    if options.schedule == "constant":
        return options.lr
    if options.schedule == "cosine":
        return options.lr * (1 + math.cos(math.pi * step / steps)) / 2
    start, end, peak_step = options.lr / 25, options.lr / 25e4, 0.3 * steps - 1
    if step <= peak_step:
        return _cosine_between(start, options.lr, step / peak_step)
    return _cosine_between(options.lr, end, (step - peak_step) / (steps - 1 - peak_step))


def _cosine_between(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def batches(order: Tensor, size: int) -> tuple[Tensor, ...]:
    """Cut an order of samples into batches, all samples included.

    A last batch of one joins its neighbour: batch statistics of a single sample do not exist.
    """
    parts = order.split(size)
    if len(parts) > 1 and len(parts[-1]) == 1:
        return (*parts[:-2], torch.cat(parts[-2:]))
    return parts


def autocast(
    options: TrainOptions, device: torch.device
) -> contextlib.AbstractContextManager[None]:
    """The precision context of a training step."""
    if options.precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def check_finite(value: float, what: str, epoch: int) -> None:
    """Stop a run that left the finite numbers.

    Raises:
        Diverged: Naming the quantity and the epoch.
    """
    if not math.isfinite(value):
        raise Diverged(f"{what} became {value} in epoch {epoch}")
