"""Parts of the training loop: determinism, optimizer, learning rate, batches and precision."""

import contextlib
import math
import os

import torch
from torch import Tensor, nn

from hardness.dynamics.record import Diverged
from hardness.training.options import TrainOptions


def prepare(options: TrainOptions, device: torch.device) -> None:
    """Set threads and determinism, so that results do not depend on what ran before.

    Call it in the thread that trains, since the number of threads is set per thread.
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
    """A new optimizer over all parameters of a network."""
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
    """Learning rate of a step, by a formula, so that a resumed run needs no scheduler state.

    It agrees with torch's ``CosineAnnealingLR`` and ``OneCycleLR`` (without cycling momentum).

    Args:
        step: Number of the step, from 0, over all epochs.
        steps: Number of steps in all epochs.
        options: Peak learning rate and schedule.
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
    """Cut an order of samples into batches that contain all samples.

    A last batch of one sample is joined to the one before, since it has no batch statistics.
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
    """Stop a run whose numbers are no longer finite.

    Raises:
        Diverged: If ``value`` is not finite; it names the quantity and the epoch.
    """
    if not math.isfinite(value):
        raise Diverged(f"{what} became {value} in epoch {epoch}")
