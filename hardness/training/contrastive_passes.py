"""Scoring passes over a contrastive network: losses of two views, and their gradients.

A sample's part of a batch's loss depends on the batch. So the batches have a fixed size, are drawn
by the data seed, and are the same for all runs and epochs. The network is in eval mode, so samples
of a batch affect each other only in the loss.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hardness.models.augmentation import augment, draw
from hardness.models.options import Augmentation
from hardness.seeding import Streams
from hardness.signals import views as view_losses
from hardness.signals.views import Objective
from hardness.training.passes import PAIRS_OF_VIEWS
from hardness.training.pixels import Pixels
from hardness.training.projection import Projected

# Samples that are scored together; the batch size of the training does not matter.
BATCH = 256
# One grey level, the smallest change of an 8-bit image; the loss is almost linear over it.
EPSILON = 1 / 255


def contrastive_signals(
    names: Iterable[str],
    network: Projected,
    pixels: Pixels,
    objective: Objective,
    augmentation: Augmentation,
    *,
    streams: Streams,
    epoch: int,
    data_seed: int,
    at_once: int,
) -> dict[str, Float[Tensor, " samples"]]:
    """Run scoring passes over views of all images, and average over ``PAIRS_OF_VIEWS`` pairs.

    Args:
        names: Names of the passes, keys of ``OF_CONTRASTIVE``.
        network: Network in eval mode; the mode is not changed.
        pixels: Images of all samples.
        objective: Objective of the run.
        augmentation: Operations that make a view from an image.
        streams: Random streams of the run; views have a stream of their own.
        epoch: Epoch that has just ended.
        data_seed: Seed that draws the batches.
        at_once: Number of images of a view whose activations are held in memory. A larger batch
            takes one more forward pass for each gradient.

    Returns:
        Signals of the passes by name.
    """
    of_pair = [_OF_PAIR[name] for name in names]
    if not of_pair:
        return {}
    n, device = len(pixels), pixels.device
    total: dict[str, Tensor] = {}
    generator = streams.generator("views", epoch)
    for _ in range(PAIRS_OF_VIEWS):
        draws = [draw(augmentation, n, generator).to(device) for _ in range(2)]
        scored, first_times = zip(*fixed_batches(n, data_seed), strict=True)
        units = pixels.units([batch.to(device) for batch in scored])
        for (rows, unit), first_time in zip(units, first_times, strict=True):
            views = [augment(augmentation, unit, d[rows]) for d in draws]
            pair = _Pair(network, pixels, objective, views, at_once)
            for found in (signals(pair) for signals in of_pair):
                for name, values in found.items():
                    if name not in total:
                        total[name] = torch.zeros(n, dtype=torch.float64, device=device)
                    total[name][rows[:first_time]] += values[:first_time]
    return {name: (values / PAIRS_OF_VIEWS).float() for name, values in total.items()}


def fixed_batches(
    n: int, data_seed: int, size: int = BATCH
) -> Iterator[tuple[Int64[Tensor, " batch"], int]]:
    """Cut one permutation of the samples into batches of equal size.

    The last batch is filled with samples from the permutation's start; these were scored before and
    do not count again. If there are fewer samples than ``size``, one batch holds each of them once.

    Args:
        n: Number of samples.
        data_seed: Seed of the permutation, which depends on nothing else.
        size: Number of samples in a batch.

    Yields:
        Rows of a batch, and the number of its first rows that have not been in a batch before.

    Example:
        >>> [(len(rows), first_time) for rows, first_time in fixed_batches(10, 0, size=4)]
        [(4, 4), (4, 4), (4, 2)]
    """
    order = torch.randperm(n, generator=Streams(seed=data_seed, salt="batches").generator("order"))
    size = min(size, n)
    around = torch.cat([order, order[: -n % size]])
    for start in range(0, n, size):
        yield around[start : start + size], min(size, n - start)


class _Pair:
    """Two views of each sample in a batch, and intermediate results that several signals use."""

    def __init__(
        self,
        network: Projected,
        pixels: Pixels,
        objective: Objective,
        views: Sequence[Tensor],
        at_once: int,
    ) -> None:
        self.objective = objective
        self.views = views
        self._network, self._pixels, self._at_once = network, pixels, at_once
        self._x = [pixels.normalize(view).detach().requires_grad_() for view in views]
        with torch.enable_grad():
            self.hidden, self._projected = zip(*map(self._project, self._x), strict=True)
        # Input of the losses: float64, detached from the network.
        self.z = [z.detach().double() for z in self._projected]

    @cached_property
    def own_errors(self) -> tuple[Float64[Tensor, "batch units"], ...]:
        """Gradient of each sample's own loss with respect to its projections."""
        return self.errors(lambda a, b: self.own_losses(a, b).sum())

    @cached_property
    def own_slopes(self) -> tuple[Float[Tensor, "batch channels height width"], ...]:
        """Gradient of each sample's own loss with respect to its normalised pixels."""
        return self.slopes(self.own_errors)

    def own_losses(
        self, a: Float[Tensor, "batch units"], b: Float[Tensor, "batch units"]
    ) -> Float64[Tensor, " batch"]:
        """Loss of each sample if its own projections are these and all others stay the same."""
        return self.objective.of_samples(a, b, others=(self.z[0], self.z[1]))

    def errors(
        self, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[Float64[Tensor, "batch units"], ...]:
        """Gradient of a loss with respect to both views' projections."""
        with torch.enable_grad():
            leaves = [z.clone().requires_grad_() for z in self.z]
            return torch.autograd.grad(loss(*leaves), leaves)

    def slopes(
        self, errors: Sequence[Float64[Tensor, "batch units"]]
    ) -> tuple[Float[Tensor, "batch channels height width"], ...]:
        """Carry a gradient from the projections back to the normalised pixels."""
        single = [error.float() for error in errors]
        return torch.autograd.grad(self._projected, self._x, single, retain_graph=True)

    @torch.no_grad()
    def projected(
        self, view: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch units"]:
        """Projections of another view of the batch, its pixels in 0..1."""
        parts = self._pixels.normalize(view).split(self._at_once)
        return torch.cat([self._network(part) for part in parts])

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        run = self._network.hidden_and_projected
        if len(x) <= self._at_once:
            return run(x)
        parts = [
            checkpoint(run, part, use_reentrant=False, preserve_rng_state=False)
            for part in x.split(self._at_once)
        ]
        hidden, projected = zip(*parts, strict=True)
        return torch.cat(hidden), torch.cat(projected)


def _views(pair: _Pair) -> dict[str, Tensor]:
    a, b = pair.z
    # The loss is a mean over the batch, so a sample's gradient has to be scaled by its size.
    errors = [len(a) * error for error in pair.errors(pair.objective.of_batch)]
    slopes, own = pair.slopes(errors), pair.own_slopes
    last_layer = torch.stack(pair.own_errors), torch.stack(pair.hidden).detach()
    return {
        "ssl_loss_ntxent": view_losses.ntxent_of_samples(a, b, pair.objective.temperature),
        "barlow_influence": view_losses.barlow_influence(a, b, pair.objective.off_diagonal),
        "barlow_alignment": view_losses.barlow_alignment(a, b),
        "lgn": view_losses.lgn(*slopes),
        "lgn.stacked": view_losses.lgn(*slopes, stacked=True),
        "lgn.own": view_losses.lgn(*own),
        "ssl_param_grad_norm": view_losses.layer_gradient_norm(*last_layer),
        "ssl_param_grad_norm.l1": view_losses.layer_gradient_norm(*last_layer, order=1),
    }


def _perturbation(pair: _Pair) -> dict[str, Tensor]:
    # Gradients for pixels in 0..1 and for normalised pixels have the same sign.
    moved = [
        view + EPSILON * slope.sign()
        for view, slope in zip(pair.views, pair.own_slopes, strict=True)
    ]
    after = pair.own_losses(*(pair.projected(view) for view in moved))
    return {"ssl_perturbation_gain": after - pair.own_losses(*pair.z)}


_OF_PAIR: dict[str, Callable[[_Pair], dict[str, Tensor]]] = {
    "views": _views,
    "perturbation": _perturbation,
}
