"""Losses that compare two views of every sample: of a batch, and what each sample has part in it.

A sample's own loss and a batch's depend on the other samples. Where a gradient is to be that of
one sample alone, the projections of the others are constants: ``others`` holds them, and row i of
the views stands among them in place of row i. One backward pass then gives every sample's own
gradient at once. What is said of single samples is computed in float64.
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
    """What a contrastive training minimises.

    Args:
        name: ``simclr`` (NT-Xent) or ``barlow_twins``.
        temperature: Of NT-Xent.
        off_diagonal: Weight of Barlow Twins' redundancy term.
    """

    name: Literal["simclr", "barlow_twins"]
    temperature: float
    off_diagonal: float

    def of_batch(
        self, a: Float[Tensor, "batch width"], b: Float[Tensor, "batch width"]
    ) -> Float[Tensor, ""]:
        """The loss that training descends."""
        if self.name == "simclr":
            return ntxent(a, b, self.temperature)
        return barlow_twins(a, b, self.off_diagonal)

    def of_samples(
        self, a: Float[Tensor, "batch width"], b: Float[Tensor, "batch width"], *, others: Pair
    ) -> Float64[Tensor, " batch"]:
        """Each sample's own loss: NT-Xent, or how far Barlow Twins' views are from each other."""
        if self.name == "simclr":
            return ntxent_of_samples(a, b, self.temperature, others=others)
        return barlow_alignment(a, b, others=others)


def ntxent(
    a: Float[Tensor, "batch width"], b: Float[Tensor, "batch width"], temperature: float
) -> Float[Tensor, ""]:
    """Normalised temperature-scaled cross-entropy of SimCLR, the mean over both views.

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
    """NT-Xent of each sample, the mean of its two views' losses; their mean is ``ntxent``.

    Args:
        a: Projections of one view.
        b: Of the other.
        temperature: Divides the cosines.
        others: Projections of the other samples' views; the views themselves, if left out.

    References:
        Chen et al., ICML 2020, equation 1. Agrees with lightly's NTXentLoss, reduction "none",
        the mean of the two rows of a sample.
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
    """Redundancy reduction: the views' cross-correlation against the identity.

    Each view is standardised by itself (population variance plus 1e-5), as in the paper.

    References:
        Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
        ICML 2021, equations 1 and 2. Agrees with lightly 1.6's BarlowTwinsLoss; up to 1.5.1 that
        standardised the rows of both views together.
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
    """What more weight for a sample in the cross-correlation would add to ``barlow_twins``.

    ``(a_n' G b_n - sum G * C) / n`` with the loss's derivative G with respect to the
    cross-correlation C. Sums to 0 over the batch; high where the batch's loss would be lower
    without the sample.

    Args:
        a: Projections of one view.
        b: Of the other.
        off_diagonal: Weight of the redundancy term.

    References:
        The loss is Zbontar et al.'s, ICML 2021; its attribution to samples is derived here. In
        batches of 256 it ranks them as leaving each one out of the cross-correlation does (rank
        correlation 0.999); once the moments are taken anew as well, the order is another (0.5 to
        0.9).
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
    """Squared distance of a sample's standardised views.

    Its mean is ``2 sum(1 - C_ii)``, short of what the 1e-5 beside each variance takes off, so it
    shares out the invariance that ``barlow_twins`` asks for.

    Args:
        a: Projections of one view.
        b: Of the other.
        others: Projections of the other samples' views; the views themselves, if left out.

    References:
        The loss is Zbontar et al.'s, ICML 2021; its attribution to samples is derived here.
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
    """Loss gradient norm: length of the sum of the two views' gradients in the pixels.

    Args:
        a: Gradient with respect to the input of one view.
        b: Of the other.
        stacked: The length of both gradients side by side instead, where nothing cancels.

    References:
        The sum is that of Natifick/Unsupervisely-Hard, loss_experiment.ipynb.
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
    """Norm of the gradient with respect to a linear layer's weight, of two views' sum.

    The gradient is ``error_a input_a' + error_b input_b'``, and no norm needs it written out. Of
    the 2-norm the square is ``sum_vw (error_v . error_w) (input_v . input_w)``. The 1-norm is
    ``sum_oi |u_o . w_i|`` over pairs of numbers, one of each view. Once all w_i are turned into
    one half plane and sorted by angle, a u_o has those on one side of a right angle before those
    on its other side, so that sums up to a place suffice.

    Args:
        errors: Gradient with respect to the layer's output.
        inputs: What the layer is given.
        order: 2 for the Euclidean norm, 1 for the sum of magnitudes.
    """
    errors, inputs = errors.double(), inputs.double()
    if order == 1:
        return _sum_of_magnitudes(errors.permute(1, 2, 0), inputs.permute(1, 2, 0))
    products = [torch.einsum("vsd,wsd->svw", z, z) for z in (errors, inputs)]
    # Views that cancel may leave a rounding below zero.
    return (products[0] * products[1]).sum((1, 2)).clamp(min=0).sqrt()


def _sum_of_magnitudes(
    u: Float64[Tensor, "samples outputs 2"], w: Float64[Tensor, "samples inputs 2"]
) -> Float64[Tensor, " samples"]:
    """``sum_oi |u_o . w_i|`` for each sample."""
    angle = torch.atan2(w[..., 1], w[..., 0])
    w = torch.where(angle[..., None] < 0, -w, w)
    angle, place = torch.where(angle < 0, angle + math.pi, angle).sort(1)
    w = w.gather(1, place[..., None].expand_as(w))
    # A product, since a running sum is refused on a GPU that has to give the same bits again.
    before_each = torch.ones(w.shape[1] + 1, w.shape[1], dtype=w.dtype, device=w.device).tril(-1)
    up_to = before_each @ w
    right = torch.remainder(torch.atan2(u[..., 1], u[..., 0]) + math.pi / 2, math.pi)
    before = torch.searchsorted(angle, right)[..., None].expand_as(u)
    difference = up_to[:, -1:] - 2 * up_to.gather(1, before)
    return (u * difference).sum(2).abs().sum(1)


def _check_alike(a: Tensor, b: Tensor) -> None:
    """Refuse two views that are not of the same samples, which broadcasting would pair."""
    if a.shape != b.shape:
        raise ValueError(
            f"expected two views of one shape; got shapes {tuple(a.shape)} and {tuple(b.shape)}"
        )


def _standardize(z: Tensor) -> Tensor:
    return (z - z.mean(0)) / (z.var(0, correction=0) + _EPS).sqrt()


def _standardize_each(z: Tensor, among: Tensor) -> Tensor:
    """Standardise row i of ``z`` by the moments of ``among`` with that row in place of its own."""
    z, among = z.double(), among.double()
    n, mean = len(z), among.mean(0)
    moved = (z - among) / n
    grown = ((z - mean).square() - (among - mean).square()) / n
    variance = among.var(0, correction=0) + grown - moved.square()
    return (z - mean - moved) / (variance + _EPS).sqrt()
