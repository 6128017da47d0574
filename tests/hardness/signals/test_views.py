"""Losses of two views: those of a batch, each sample's own, and norms of their gradients."""

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from lightly.loss import BarlowTwinsLoss, NTXentLoss
from scipy.stats import spearmanr
from torch.nn.functional import cross_entropy

from hardness.signals.views import (
    Objective,
    barlow_alignment,
    barlow_influence,
    barlow_twins,
    layer_gradient_norm,
    lgn,
    ntxent,
    ntxent_of_samples,
)
from tests.strategies import numbers

OBJECTIVES = {
    "simclr": Objective(name="simclr", temperature=0.2, off_diagonal=5e-3),
    "barlow_twins": Objective(name="barlow_twins", temperature=0.5, off_diagonal=5e-3),
}


def pair(n, width=4, seed=0, noise=0.5):
    """Projections of two views that agree up to some noise."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(n, width, generator=generator, dtype=torch.float64)
    return a, a + noise * torch.randn(n, width, generator=generator, dtype=torch.float64)


@st.composite
def pairs(draw):
    """Views of a few samples; duplicates, zeros and constant dimensions are common."""
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    one = hnp.arrays(np.float32, shape, elements=numbers(-4.0, 4.0))
    return torch.tensor(draw(one)), torch.tensor(draw(one))


def slow_ntxent(a, b, temperature):
    """Equation 1 for every positive pair in both directions, then the mean."""
    z = [*a, *b]
    n = len(a)

    def similarity(i, j):
        return float(z[i] @ z[j] / (np.linalg.norm(z[i]) * np.linalg.norm(z[j])))

    losses = []
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        others = sum(math.exp(similarity(i, k) / temperature) for k in range(2 * n) if k != i)
        losses.append(-math.log(math.exp(similarity(i, j) / temperature) / others))
    return sum(losses) / len(losses)


def slow_barlow_twins(a, b, off_diagonal):
    """Equations 1 and 2 over every pair of dimensions."""
    a, b = ((z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5) for z in (a, b))
    total = 0.0
    for i in range(a.shape[1]):
        for j in range(a.shape[1]):
            c = sum(a[k, i] * b[k, j] for k in range(len(a))) / len(a)
            total += (1 - c) ** 2 if i == j else off_diagonal * c**2
    return total


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("number", [0.1, 0.5, 2.0])
def test_losses_agree_with_their_equations(n, number):
    generator = np.random.default_rng(n)
    a, b = generator.normal(size=(2, n, 3))
    tensors = torch.tensor(a), torch.tensor(b)
    assert ntxent(*tensors, number).item() == pytest.approx(slow_ntxent(a, b, number), abs=1e-12)
    expected = slow_barlow_twins(a, b, number)
    assert barlow_twins(*tensors, number).item() == pytest.approx(expected, rel=1e-9)


def test_ntxent_of_two_orthogonal_pairs():
    """Each view is at 1 from its partner and at 0 from the other two."""
    z = torch.eye(2)
    assert ntxent(z, z, 1.0).item() == pytest.approx(math.log(1 + 2 / math.e), rel=1e-6)


def test_barlow_twins_of_equal_and_of_opposite_views():
    """Two uncorrelated dimensions: the correlation is the identity, or minus it."""
    z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert barlow_twins(z, z, 1.0).item() == pytest.approx(0.0, abs=1e-8)
    assert barlow_twins(z, -z, 1.0).item() == pytest.approx(8.0, rel=1e-4)


def lightly_ntxent(a, b, temperature):
    """lightly's loss of every row: those of the first view, then those of the second."""
    loss = NTXentLoss(temperature=temperature)
    loss.cross_entropy.reduction = "none"
    return loss(a, b)


@pytest.mark.parametrize("n", [1, 2, 7, 40])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_ntxent_of_samples_agrees_with_lightly(n, temperature):
    a, b = pair(n)
    expected = lightly_ntxent(a, b, temperature).view(2, n).mean(0)
    found = ntxent_of_samples(a, b, temperature)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert found.mean().item() == pytest.approx(ntxent(a, b, temperature).item(), abs=1e-12)


def test_the_total_of_barlow_twins_agrees_with_lightly_and_not_with_joint_standardisation():
    a, b = pair(16, width=5)
    b = 2 * b + 1
    found = barlow_twins(a, b, 5e-3).item()
    assert found == pytest.approx(BarlowTwinsLoss(lambda_param=5e-3)(a, b).item(), rel=1e-12)
    both = torch.cat([a, b])
    jointly = (both - both.mean(0)) / (both.var(0, correction=0) + 1e-5).sqrt()
    c = jointly[:16].T @ jointly[16:] / 16
    off = c - torch.diag(c.diagonal())
    older = ((1 - c.diagonal()) ** 2).sum() + 5e-3 * (off**2).sum()
    assert abs(older.item() - found) > 0.05


def test_ntxent_of_samples_by_hand():
    """The first pair agrees and stands alone; the second and the third share a place."""
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 1.0]])
    first = math.log(math.e + 4) - 1
    others = math.log(3 * math.e + 2) - 1
    found = ntxent_of_samples(z, z, 1.0)
    np.testing.assert_allclose(found, [first, others, others], rtol=1e-9)


def test_influence_by_hand():
    """One dimension; views of the last two of six samples disagree, so C = 1/3 and G = -4/3."""
    a = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])[:, None]
    b = torch.tensor([1.0, -1.0, 1.0, -1.0, -1.0, 1.0])[:, None]
    expected = [-4 / 27] * 4 + [8 / 27] * 2
    np.testing.assert_allclose(barlow_influence(a, b, 1.0), expected, rtol=1e-4)
    np.testing.assert_allclose(barlow_alignment(a, b), [0.0] * 4 + [4.0] * 2, rtol=1e-4)


def of_correlation(a, b, off_diagonal):
    c = a.T @ b / len(a)
    return ((1 - c.diagonal()) ** 2).sum() + off_diagonal * (
        c - torch.diag(c.diag())
    ).square().sum()


@pytest.mark.parametrize(("off_diagonal", "agreement"), [(5e-3, 0.999), (0.1, 0.995)])
def test_influence_sums_to_zero_and_orders_samples_as_leaving_each_one_out_does(
    off_diagonal, agreement
):
    """Left out of the cross-correlation. Of the moments as well, and the order is another."""
    n = 256
    a, b = pair(n, width=64, noise=0.7)
    found = barlow_influence(a, b, off_diagonal)
    assert abs(found.sum().item()) < 1e-10 < found.abs().max().item()
    rest = [torch.arange(n) != i for i in range(n)]
    first, second = ((z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt() for z in (a, b))
    without = [of_correlation(first[r], second[r], off_diagonal).item() for r in rest]
    assert spearmanr(found, without).statistic < -agreement
    anew = [barlow_twins(a[r], b[r], off_diagonal).item() for r in rest]
    assert -0.95 < spearmanr(found, anew).statistic < -0.5


def test_influence_is_the_slope_of_the_total_in_a_sample_s_weight():
    """Weights of standardised samples in the cross-correlation, kept at a sum of one."""
    a, b = pair(9, width=3)
    weights = torch.full((9,), 1 / 9, dtype=torch.float64, requires_grad=True)
    first, second = ((z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt() for z in (a, b))
    c = torch.einsum("n,ni,nj->ij", weights / weights.sum(), first, second)
    total = ((1 - c.diagonal()) ** 2).sum() + 0.1 * (c - torch.diag(c.diagonal())).square().sum()
    (slope,) = torch.autograd.grad(total, weights)
    # A sum of one: the weights' own scale drops out, and 1/n is what a whole sample weighs.
    torch.testing.assert_close(barlow_influence(a, b, 0.1), slope / 9, rtol=1e-9, atol=1e-12)


def test_alignment_shares_out_the_linear_invariance_term():
    a, b = pair(30, width=5)
    first, second = (
        (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt() for z in (100 * a, 100 * b)
    )
    expected = 2 * (1 - (first * second).mean(0)).sum()
    assert barlow_alignment(100 * a, 100 * b).mean().item() == pytest.approx(
        expected.item(), rel=1e-6
    )


def slow_own_loss(name, a, b, i):
    """The loss of sample i in the batch, by lightly or from the standardised views."""
    if name == "simclr":
        losses = lightly_ntxent(a, b, OBJECTIVES[name].temperature)
        return (losses[i] + losses[i + len(a)]) / 2
    first, second = ((z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt() for z in (a, b))
    return (first[i] - second[i]).square().sum()


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("n", [2, 5, 12])
def test_one_backward_pass_gives_each_sample_s_own_gradient(name, n):
    """As differentiating n losses, each with respect to one sample, all others held constant."""
    a, b = pair(n)
    leaves = [z.clone().requires_grad_() for z in (a, b)]
    losses = OBJECTIVES[name].of_samples(*leaves, others=(a, b))
    found = torch.autograd.grad(losses.sum(), leaves)
    for i in range(n):
        own = [z[i].clone().requires_grad_() for z in (a, b)]
        placed = [
            torch.cat([z[:i], row[None], z[i + 1 :]]) for z, row in zip((a, b), own, strict=True)
        ]
        loss = slow_own_loss(name, placed[0], placed[1], i)
        assert losses[i].item() == pytest.approx(loss.item(), rel=1e-9)
        for mine, expected in zip(found, torch.autograd.grad(loss, own), strict=True):
            torch.testing.assert_close(mine[i], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_own_gradient_is_not_that_of_the_batch(name):
    a, b = pair(6)
    leaves = [z.clone().requires_grad_() for z in (a, b)]
    objective = OBJECTIVES[name]
    own = torch.autograd.grad(objective.of_samples(*leaves, others=(a, b)).sum(), leaves)
    batch = torch.autograd.grad(6 * objective.of_batch(*leaves), leaves)
    assert not torch.allclose(own[0], batch[0], rtol=0.1)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_moved_sample_stands_among_the_others_where_they_were(name):
    a, b = pair(8)
    moved = pair(8, seed=1)
    found = OBJECTIVES[name].of_samples(*moved, others=(a, b))
    for i in range(8):
        placed = [
            torch.cat([z[:i], m[i : i + 1], z[i + 1 :]]) for z, m in zip((a, b), moved, strict=True)
        ]
        expected = slow_own_loss(name, placed[0], placed[1], i).item()
        assert found[i].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_objective_of_a_batch_is_the_published_loss(name):
    a, b = pair(10)
    theirs = NTXentLoss(temperature=0.2) if name == "simclr" else BarlowTwinsLoss()
    found = OBJECTIVES[name].of_batch(a, b).item()
    assert found == pytest.approx(theirs(a, b).item(), rel=1e-9)


def test_a_sample_whose_views_disagree_scores_harder():
    a, b = pair(60, width=8, noise=0.3)
    b[7] = -b[7]
    for scores in (
        ntxent_of_samples(a, b, 0.5),
        barlow_influence(a, b, 5e-3),
        barlow_alignment(a, b),
    ):
        assert scores.argmax() == 7


def test_near_duplicates_inflate_each_other_s_ntxent():
    a, b = pair(60, width=8, noise=0.1)
    apart = ntxent_of_samples(a, b, 0.5)
    for z in (a, b):
        z[1:5] = z[0] + 1e-3 * z[1:5]
    together = ntxent_of_samples(a, b, 0.5)
    assert (together[:5] > apart[5:].max()).all()


@given(views=pairs(), seed=st.integers(0, 99))
def test_a_permutation_of_the_samples_permutes_what_is_theirs(views, seed):
    a, b = views
    order = torch.randperm(len(a), generator=torch.Generator().manual_seed(seed))
    for function in (
        lambda x, y: ntxent_of_samples(x, y, 0.5),
        lambda x, y: barlow_influence(x, y, 5e-3),
        barlow_alignment,
    ):
        found = function(a, b)
        assert found.dtype == torch.float64
        assert found.isfinite().all()
        torch.testing.assert_close(function(a[order], b[order]), found[order], rtol=1e-9, atol=1e-9)


@given(views=pairs())
def test_the_views_change_places_without_a_difference(views):
    a, b = views
    torch.testing.assert_close(ntxent_of_samples(a, b, 0.5), ntxent_of_samples(b, a, 0.5))
    torch.testing.assert_close(barlow_alignment(a, b), barlow_alignment(b, a))
    torch.testing.assert_close(barlow_influence(a, b, 0.1), barlow_influence(b, a, 0.1))


@given(views=pairs())
def test_constants_equal_to_the_views_change_no_value(views):
    a, b = views
    torch.testing.assert_close(
        ntxent_of_samples(a, b, 0.5, others=(a, b)), ntxent_of_samples(a, b, 0.5)
    )
    torch.testing.assert_close(barlow_alignment(a, b, others=(a, b)), barlow_alignment(a, b))


def test_loss_gradient_norms_by_hand():
    """Two images of one pixel row each: gradients that add up, and gradients that cancel."""
    a = torch.tensor([[[[3.0, 0.0]]], [[[1.0, 1.0]]]])
    b = torch.tensor([[[[0.0, 4.0]]], [[[-1.0, -1.0]]]])
    assert lgn(a, b).tolist() == [5.0, 0.0]
    assert lgn(a, b, stacked=True).tolist() == [5.0, 2.0]


def test_a_layer_s_gradient_norm_by_hand():
    """Gradient [[1 - 1], [0 + 4]] of the first sample; the second's views cancel."""
    errors = torch.tensor([[[1.0, 0.0], [1.0, 2.0]], [[-1.0, 4.0], [-1.0, -2.0]]])
    inputs = torch.tensor([[[1.0], [3.0]], [[1.0], [3.0]]])
    assert layer_gradient_norm(errors, inputs).tolist() == [4.0, 0.0]
    assert layer_gradient_norm(errors, inputs, order=1).tolist() == [4.0, 0.0]


@pytest.mark.parametrize("order", [1, 2])
@settings(max_examples=200)
@given(data=st.data())
def test_a_layer_s_gradient_norm_is_that_of_the_gradient_written_out(order, data):
    """Ties in angle, zeros and opposite views are common."""
    n, out, given = (data.draw(st.integers(1, top)) for top in (4, 6, 6))
    errors, inputs = (
        torch.tensor(data.draw(hnp.arrays(np.float32, (2, n, size), elements=numbers(-3.0, 3.0))))
        for size in (out, given)
    )
    gradient = torch.einsum("vso,vsi->soi", errors.double(), inputs.double()).flatten(1)
    expected = torch.linalg.vector_norm(gradient, ord=order, dim=1)
    # The root of a rounding: views that cancel leave no more than that.
    torch.testing.assert_close(
        layer_gradient_norm(errors, inputs, order=order), expected, rtol=1e-7, atol=2e-6
    )


def test_a_layer_s_gradient_norm_agrees_with_autograd():
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(5, 3)
    inputs = torch.randn(2, 4, 5, generator=generator)
    targets = torch.tensor([0, 2, 1, 1])
    outputs = layer(inputs).detach().requires_grad_()
    total = cross_entropy(outputs.flatten(0, 1), targets.repeat(2), reduction="sum")
    (errors,) = torch.autograd.grad(total, outputs)
    for i in range(4):
        loss = cross_entropy(layer(inputs[:, i]), targets[i].expand(2), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, layer.weight)
        for order in (1, 2):
            found = layer_gradient_norm(errors, inputs, order=order)[i].item()
            expected = torch.linalg.vector_norm(gradient.flatten(), ord=order).item()
            assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n", [1, 6])
@pytest.mark.parametrize(
    ("function", "numbers"),
    [
        (ntxent, [0.5]),
        (ntxent_of_samples, [0.5]),
        (barlow_twins, [0.005]),
        (barlow_influence, [0.005]),
        (barlow_alignment, []),
        (lgn, []),
    ],
)
def test_views_of_different_length_are_refused(function, numbers, n):
    message = rf"expected two views of one shape; got shapes \(8, 4\) and \({n}, 4\)"
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(function)(torch.ones(8, 4), torch.ones(n, 4), *numbers)
