"""Nearest neighbors against every pair computed from differences."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.neighbors import NearestNeighbors

from hardness.signals import neighbors as module
from hardness.signals.neighbors import neighbors, pixel_distances
from tests.strategies import embeddings


def slow(emb):
    """Every pair from differences, sorted by (distance, row)."""
    x = emb.astype(np.float64)
    distances = np.sqrt(((x[:, None] - x) ** 2).sum(axis=2))
    np.fill_diagonal(distances, np.inf)
    order = np.argsort(distances, axis=1, kind="stable")[:, : len(x) - 1]
    return np.take_along_axis(distances, order, axis=1), order


@given(emb=embeddings(), k=st.integers(1, 15), spare=st.integers(0, 16))
def test_equals_every_pair(emb, k, spare):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SPARE", spare)
        distances, indices = neighbors(torch.tensor(emb), k)
    expected, order = slow(emb)
    np.testing.assert_allclose(distances.numpy(), expected[:, :k], rtol=1e-14)
    assert ((distances.numpy() == 0) == (expected[:, :k] == 0)).all()
    # Where two distances differ by rounding alone, either may come first.
    gap = np.diff(expected, axis=1)
    sure = ~((gap > 0) & (gap < 1e-12)).any(axis=1)
    np.testing.assert_array_equal(indices.numpy()[sure], order[sure, :k])


@pytest.mark.parametrize("block", [1, 64, 1 << 23])
def test_agrees_with_scikit_learn_in_any_block(monkeypatch, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    emb = torch.randn(150, 8, generator=torch.manual_seed(1))
    distances, indices = neighbors(emb, 10)
    nearest = NearestNeighbors(n_neighbors=10, algorithm="brute").fit(emb.double().numpy())
    expected, order = nearest.kneighbors()
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-9)
    np.testing.assert_array_equal(indices.numpy(), order)


def test_many_duplicates_are_at_zero_in_the_order_of_their_rows():
    emb = torch.randn(3, 5, generator=torch.manual_seed(2)).repeat(60, 1) * 1e3
    distances, indices = neighbors(emb, 4)
    assert (distances == 0).all()
    assert indices[0].tolist() == [3, 6, 9, 12]
    assert indices[6].tolist() == [0, 3, 9, 12]


def test_near_duplicates_far_from_the_origin_keep_their_distance():
    emb = torch.tensor([[1e4, 0.0], [1e4 + 2**-9, 0.0], [1e4, 2**-12]], dtype=torch.float64)
    distances, indices = neighbors(emb, 1)
    assert distances[:, 0].tolist() == [2**-12, 2**-9, 2**-12]
    assert indices[:, 0].tolist() == [2, 0, 0]


def test_an_order_that_the_matrix_product_cannot_see(monkeypatch):
    monkeypatch.setattr(module, "_SPARE", 0)
    steps = torch.tensor([0.0, 5, 3, 1, 2, 4], dtype=torch.float64) * 2**-30
    emb = torch.stack([1e6 + steps, torch.full_like(steps, 1e6)], dim=1)
    _, indices = neighbors(emb, 2)
    assert indices[0].tolist() == [3, 4]


def test_k_is_cut_to_the_other_samples():
    distances, indices = neighbors(torch.eye(3), 20)
    assert distances.shape == indices.shape == (3, 2)


@pytest.mark.parametrize("samples", [0, 1])
def test_without_other_samples_there_are_no_columns(samples):
    distances, indices = neighbors(torch.ones(samples, 4), 3)
    assert distances.shape == indices.shape == (samples, 0)
    assert indices.dtype == torch.int64


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_no_neighbor(bad):
    emb = torch.tensor([[0.0], [bad], [1.0], [3.0]])
    distances, indices = neighbors(emb, 3)
    assert indices.tolist() == [[2, 3], [-1, -1], [0, 3], [2, 0]]
    assert distances[[0, 2, 3]].tolist() == [[1.0, 3.0], [1.0, 2.0], [2.0, 3.0]]
    assert distances[1].isnan().all()


def test_normalized_rows_have_length_one_and_zero_stays():
    emb = torch.tensor([[3.0, 4.0], [0.0, 0.0], [6.0, 8.0], [1e-30, 0.0]])
    distances, _ = neighbors(emb, 3, normalize=True)
    np.testing.assert_allclose(distances[1].numpy(), [1.0, 1.0, 1.0], rtol=1e-12)
    np.testing.assert_allclose(distances[0, 0].item(), 0.0, atol=1e-12)
    np.testing.assert_allclose(distances[3, 1].item(), np.hypot(0.4, 0.8), rtol=1e-12)


def test_normalized_duplicates_are_at_zero():
    emb = torch.randn(20, 7, generator=torch.manual_seed(3)).repeat(2, 1)
    assert (neighbors(emb, 1, normalize=True)[0] == 0).all()


@given(emb=embeddings(), data=st.data())
def test_permuting_samples_permutes_distances(emb, data):
    order = np.array(data.draw(st.permutations(range(len(emb)))))
    before, _ = neighbors(torch.tensor(emb), 5)
    after, _ = neighbors(torch.tensor(emb[order]), 5)
    np.testing.assert_array_equal(after.numpy(), before.numpy()[order])


def test_k_below_one_is_refused():
    with pytest.raises(ValueError, match="k of at least 1; got 0"):
        neighbors(torch.ones(2, 2), 0)
    with pytest.raises(ValueError, match="k of at least 1; got 0"):
        pixel_distances(torch.ones(2, 2).byte(), 0)


def nearest_of(emb, pool, k):
    """Every sample's nearest of the pool, itself left out."""
    distances = np.sqrt(((emb[:, None] - emb) ** 2).sum(axis=2))
    np.fill_diagonal(distances, np.inf)
    distances[:, ~pool] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), order


@given(emb=embeddings(max_samples=12), reference=st.integers(2, 5), k=st.integers(1, 6))
def test_above_the_limit_only_a_fixed_subset_can_be_neighbors(emb, reference, k):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "REFERENCE", reference)
        patch.setattr(module, "_SPARE", 0)
        patch.setattr(module, "_BLOCK", 8)
        distances, rows = neighbors(torch.tensor(emb), k)
        pool = module._reference(len(emb)).numpy()
    assert pool.sum() == min(reference, len(emb))
    expected, _ = nearest_of(emb.astype(np.float64), pool, min(k, max(0, pool.sum() - 1)))
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-12, atol=1e-12)
    assert pool[rows.numpy()].all()
    assert (rows.numpy() != np.arange(len(emb))[:, None]).all()


def test_the_subset_depends_on_the_number_of_samples_alone(monkeypatch):
    monkeypatch.setattr(module, "REFERENCE", 10)
    one, two = (torch.randn(40, 3, generator=torch.manual_seed(seed)) for seed in (0, 1))
    used = [{*neighbors(emb, 9)[1].flatten().tolist()} for emb in (one, two)]
    assert used[0] == used[1]
    assert len(used[0]) == 10
    assert module._reference(10).all()


def test_a_sample_that_is_not_finite_leaves_the_subset(monkeypatch):
    monkeypatch.setattr(module, "REFERENCE", 5)
    emb = torch.randn(20, 3, generator=torch.manual_seed(0))
    gone = module._reference(20).nonzero()[0].item()
    emb[gone] = torch.nan
    distances, rows = neighbors(emb, 10)
    assert rows.shape == (20, 3)
    assert gone not in rows
    assert distances[gone].isnan().all()


@given(
    images=hnp.arrays(
        np.uint8, hnp.array_shapes(min_dims=4, max_dims=4, max_side=5),
        elements=st.sampled_from([0, 1, 127, 128, 255]),
    ),
    k=st.integers(1, 6),
    block=st.sampled_from([1, 1 << 23]),
)  # fmt: skip
def test_pixel_distances_equal_every_pair_of_whole_numbers(images, k, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        patch.setattr(module, "_EXACT", 7)
        distances = pixel_distances(torch.tensor(images), k).numpy()
    x = images.reshape(len(images), -1).astype(np.int64)
    squared = ((x[:, None] - x) ** 2).sum(axis=2).astype(float)
    np.fill_diagonal(squared, np.inf)
    expected = np.sqrt(np.sort(squared, axis=1)[:, : min(k, len(x) - 1)]) / 255
    np.testing.assert_array_equal(distances, expected)


def test_pixel_distances_of_the_largest_differences_are_exact():
    """Sums beyond what float32 holds, in products as large as they get, one level apart."""
    images = torch.zeros(3, 3, 40, 40, dtype=torch.uint8)
    images[1:] = 255
    images[2, 0, 0, 0] = 254
    squared = (pixel_distances(images, 2) * 255).square().round().long()
    full = 3 * 40 * 40 * 255**2
    assert squared.tolist() == [[full - 255**2 + 254**2, full], [1, full], [1, full - 509]]


def test_pixel_distances_are_those_of_embeddings_of_the_pixels():
    images = torch.randint(0, 256, (40, 3, 8, 8), generator=torch.manual_seed(0)).byte()
    expected, _ = neighbors(images.flatten(1).double() / 255, 20)
    np.testing.assert_allclose(pixel_distances(images, 20), expected, rtol=1e-12)


def test_pixel_distances_above_the_limit_use_the_same_subset(monkeypatch):
    monkeypatch.setattr(module, "REFERENCE", 6)
    images = torch.randint(0, 256, (30, 12), generator=torch.manual_seed(0)).byte()
    expected, _ = neighbors(images.double() / 255, 4)
    np.testing.assert_allclose(pixel_distances(images, 4), expected, rtol=1e-12)


@pytest.mark.parametrize("samples", [0, 1])
def test_without_other_images_there_are_no_columns(samples):
    assert pixel_distances(torch.ones(samples, 2, 2).byte(), 3).shape == (samples, 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_pixel_distances_are_the_same_bits_on_a_gpu():
    images = torch.randint(0, 256, (3000, 3, 32, 32), generator=torch.manual_seed(0)).byte()
    np.testing.assert_array_equal(pixel_distances(images.cuda(), 20), pixel_distances(images, 20))
