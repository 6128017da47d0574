"""Losses that compare two views of every sample, for a batch and for each sample in it.

A sample's loss depends on the other samples of its batch. For the gradient of one sample alone,
``others`` holds the projections of the other samples as constants, and row i of the views replaces
row i of ``others``. One backward pass then gives the gradients of all samples. Values per sample
are computed in float64.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

_EPS = 1e-5
Pair: TypeAlias = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The loss of a contrastive training.

    Args:
        name: ``simclr`` (NT-Xent) or ``barlow_twins``.
        temperature: Temperature of NT-Xent.
        off_diagonal: Weight of the redundancy term of Barlow Twins.
    """

    name: Literal["simclr", "barlow_twins"]
    temperature: float
    off_diagonal: float

    def of_batch(
        self, a: Float[Tensor, "batch width"], b: Float[Tensor, "batch width"]
    ) -> Float[Tensor, ""]:
        """Loss of a batch, which training minimises."""
        if self.name == "simclr":
            return ntxent(a, b, self.temperature)
        return barlow_twins(a, b, self.off_diagonal)

    def of_samples(
        self, a: Float[Tensor, "batch width"], b: Float[Tensor, "batch width"], *, others: Pair
    ) -> Float64[Tensor, " batch"]:
        """Loss of each sample: NT-Xent, or for Barlow Twins the distance between its views."""
        if self.name == "simclr":
            return ntxent_of_samples(a, b, self.temperature, others=others)
        return barlow_alignment(a, b, others=others)


def ntxent(
    a: Float[Tensor, "batch width"], b: Float[Tensor, "batch width"], temperature: float
) -> Float[Tensor, ""]:
    """NT-Xent, the normalised temperature-scaled cross-entropy of SimCLR; mean over both views.

    References:
        Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations",
        ICML 2020, equation 1. Agrees with lightly's NTXentLoss.
    """
    _check_alike(a, b)
    z = normalize(torch.cat([a, b]), dim=1)
    similarity = z @ z.T / temperature
    similarity = similarity.masked_fill(
        torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf
    )
    partner = torch.arange(len(z), device=z.device).roll(len(a))
    return cross_entropy(similarity, partner)


def ntxent_of_samples(
    a: Float[Tensor, "batch width"],
    b: Float[Tensor, "batch width"],
    temperature: float,
    *,
    others: Pair | None = None,
) -> Float64[Tensor, " batch"]:
    """NT-Xent of each sample: mean loss of its two views. The mean over samples is ``ntxent``.

    Args:
        a: Projections of one view.
        b: Projections of the other view.
        temperature: Temperature that divides the cosines.
        others: Projections of the other samples' views; ``a`` and ``b``, if left out.

    References:
        Chen et al., ICML 2020, equation 1. Agrees with lightly's NTXentLoss with reduction "none",
        averaged over the two rows of a sample.
    """
    _check_alike(a, b)
    a, b = (normalize(z.double(), dim=1) for z in (a, b))
    among = (a, b) if others is None else [normalize(z.double(), dim=1) for z in others]
    itself = torch.eye(len(a), dtype=torch.bool, device=a.device)
    partner = (a * b).sum(1, keepdim=True) / temperature
    total = torch.zeros_like(partner[:, 0])
    for view in (a, b):
        similarity = [(view @ z.T / temperature).masked_fill(itself, -torch.inf) for z in among]
        total = total + torch.cat([partner, *similarity], dim=1).logsumexp(1) - partner[:, 0]
    return total / 2


def barlow_twins(
    a: Float[Tensor, "batch width"], b: Float[Tensor, "batch width"], off_diagonal: float
) -> Float[Tensor, ""]:
    """Barlow Twins: squared distance of the views' cross-correlation from the identity matrix.

    Each view is standardised on its own (population variance plus 1e-5), as in the paper.

    References:
        Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
        ICML 2021, equations 1 and 2. Agrees with BarlowTwinsLoss of lightly 1.6; lightly up to
        1.5.1 standardised the rows of both views together.
    """
    _check_alike(a, b)
    a, b = _standardize(a), _standardize(b)
    correlation = a.T @ b / len(a)
    squared = correlation.square()
    on_diagonal = (1 - correlation.diagonal()).square().sum()
    return on_diagonal + off_diagonal * (squared.sum() - squared.diagonal().sum())


def barlow_influence(
    a: Float[Tensor, "batch width"], b: Float[Tensor, "batch width"], off_diagonal: float
) -> Float64[Tensor, " batch"]:
    """Change of ``barlow_twins`` if a sample had more weight in the cross-correlation.

    ``(a_n' G b_n - sum G * C) / n``, where G is the loss's derivative with respect to the
    cross-correlation C. The values of a batch sum to 0. A high value means that the batch's loss
    would be lower without the sample.

    Args:
        a: Projections of one view.
        b: Projections of the other view.
        off_diagonal: Weight of the redundancy term.

    References:
        The loss is from Zbontar et al., ICML 2021; its attribution to samples is derived here. In
        batches of 256 it ranks samples as leaving each out of the cross-correlation does (rank
        correlation 0.999). With means and variances computed again as well, it is 0.5 to 0.9.
    """
    _check_alike(a, b)
    a, b = _standardize(a.double()), _standardize(b.double())
    correlation = a.T @ b / len(a)
    slope = 2 * off_diagonal * correlation
    slope.diagonal().copy_(-2 * (1 - correlation.diagonal()))
    return ((a @ slope * b).sum(1) - (slope * correlation).sum()) / len(a)


def barlow_alignment(
    a: Float[Tensor, "batch width"],
    b: Float[Tensor, "batch width"],
    *,
    others: Pair | None = None,
) -> Float64[Tensor, " batch"]:
    """Squared distance between the standardised views of each sample.

    Its mean over samples is ``2 sum(1 - C_ii)``, apart from the 1e-5 added to each variance. So it
    divides the invariance term of ``barlow_twins`` among the samples.

    Args:
        a: Projections of one view.
        b: Projections of the other view.
        others: Projections of the other samples' views; ``a`` and ``b``, if left out.

    References:
        The loss is from Zbontar et al., ICML 2021; its attribution to samples is derived here.
    """
    _check_alike(a, b)
    if others is None:
        a, b = _standardize(a.double()), _standardize(b.double())
    else:
        a, b = (_standardize_each(z, among) for z, among in zip((a, b), others, strict=True))
    return (a - b).square().sum(1)


def lgn(
    a: Float[Tensor, "samples *pixels"],
    b: Float[Tensor, "samples *pixels"],
    *,
    stacked: bool = False,
) -> Float64[Tensor, " samples"]:
    """Loss gradient norm: length of the sum of the two views' pixel gradients.

    Args:
        a: Gradient with respect to the pixels of one view.
        b: Gradient with respect to the pixels of the other view.
        stacked: Whether to take the length of both gradients side by side, where nothing cancels.

    References:
        The sum follows Natifick/Unsupervisely-Hard, loss_experiment.ipynb.
    """
    _check_alike(a, b)
    a, b = (slope.double().flatten(1) for slope in (a, b))
    if stacked:
        return (a.square().sum(1) + b.square().sum(1)).sqrt()
    return torch.linalg.vector_norm(a + b, dim=1)


def layer_gradient_norm(
    errors: Float[Tensor, "2 samples outputs"],
    inputs: Float[Tensor, "2 samples inputs"],
    *,
    order: Literal[1, 2] = 2,
) -> Float64[Tensor, " samples"]:
    """Norm of the gradient of a linear layer's weight, summed over two views.

    The gradient ``error_a input_a' + error_b input_b'`` is never formed. The square of the 2-norm
    is ``sum_vw (error_v . error_w) (input_v . input_w)``. The 1-norm is ``sum_oi |u_o . w_i|``,
    where u_o and w_i hold one number per view. All w_i are turned into one half plane and sorted
    by angle. Then, for each u_o, those with a positive product are on one side of a place and
    those with a negative product on the other, so cumulative sums are enough.

    Args:
        errors: Gradient with respect to the layer's output.
        inputs: Inputs of the layer.
        order: 2 for the Euclidean norm, 1 for the sum of magnitudes.
    """
    errors, inputs = errors.double(), inputs.double()
    if order == 1:
        return _sum_of_magnitudes(errors.permute(1, 2, 0), inputs.permute(1, 2, 0))
    products = [torch.einsum("vsd,wsd->svw", z, z) for z in (errors, inputs)]
    # Rounding may go below zero where the views cancel.
    return (products[0] * products[1]).sum((1, 2)).clamp(min=0).sqrt()


def _sum_of_magnitudes(
    u: Float64[Tensor, "samples outputs 2"], w: Float64[Tensor, "samples inputs 2"]
) -> Float64[Tensor, " samples"]:
    """``sum_oi |u_o . w_i|`` for each sample."""
    angle = torch.atan2(w[..., 1], w[..., 0])
    w = torch.where(angle[..., None] < 0, -w, w)
    angle, place = torch.where(angle < 0, angle + math.pi, angle).sort(1)
    w = w.gather(1, place[..., None].expand_as(w))
    # A matrix product, since torch refuses cumsum on a GPU in deterministic mode.
    before_each = torch.ones(w.shape[1] + 1, w.shape[1], dtype=w.dtype, device=w.device).tril(-1)
    up_to = before_each @ w
    right = torch.remainder(torch.atan2(u[..., 1], u[..., 0]) + math.pi / 2, math.pi)
    before = torch.searchsorted(angle, right)[..., None].expand_as(u)
    difference = up_to[:, -1:] - 2 * up_to.gather(1, before)
    return (u * difference).sum(2).abs().sum(1)


def _check_alike(a: Tensor, b: Tensor) -> None:
    """Refuse views of different shapes, which broadcasting would pair without an error."""
    if a.shape != b.shape:
        raise ValueError(
            f"expected two views of one shape; got shapes {tuple(a.shape)} and {tuple(b.shape)}"
        )


def _standardize(z: Tensor) -> Tensor:
    return (z - z.mean(0)) / (z.var(0, correction=0) + _EPS).sqrt()


def _standardize_each(z: Tensor, among: Tensor) -> Tensor:
    """Standardise row i of ``z`` by the moments of ``among`` after it replaced row i there."""
    z, among = z.double(), among.double()
    n, mean = len(z), among.mean(0)
    moved = (z - among) / n
    grown = ((z - mean).square() - (among - mean).square()) / n
    variance = among.var(0, correction=0) + grown - moved.square()
    return (z - mean - moved) / (variance + _EPS).sqrt()
