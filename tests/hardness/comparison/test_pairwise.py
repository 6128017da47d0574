"""Rank-biased overlap and partial correlation of pairs of metrics, on disjoint runs."""

import numpy as np
import pytest

from hardness.comparison.correlation import partial_spearman
from hardness.comparison.disjoint_runs import ScoreSet
from hardness.comparison.pairwise import pairwise_agreement
from hardness.comparison.rank_biased_overlap import rbo

SAMPLES = 400


def noisy(name, seed, runs, noise=1.0, signal=None):
    generator = np.random.default_rng(seed)
    signal = np.random.default_rng(9).normal(size=SAMPLES) if signal is None else signal
    scores = signal + noise * generator.normal(size=(len(runs), SAMPLES))
    return ScoreSet(name=name, scores=scores, runs=tuple(runs))


def test_sets_without_shared_runs_are_compared_by_their_means():
    x, y = noisy("x", 0, "ab"), noisy("y", 1, "cd")
    control = np.random.default_rng(5).normal(size=SAMPLES)
    ids = np.arange(SAMPLES)
    row = pairwise_agreement([x, y], [(0, 1)], ids, control=control, draws=20).iloc[0]
    means = x.scores.mean(axis=0), y.scores.mean(axis=0)
    expected = rbo(*means, draws=20)
    assert row["rbo"] == pytest.approx(expected.value)
    assert (row["rbo_low"], row["rbo_high"]) == pytest.approx((expected.low, expected.high))
    assert row["rbo_extrapolated"] == pytest.approx(expected.extrapolated)
    assert row["partial_spearman"] == pytest.approx(partial_spearman(*means, control).value)


def test_shared_runs_stand_on_one_side_at_a_time():
    """Pure noise that both metrics take from the same run agrees in it, and nowhere else."""
    noise = noisy("x", 0, "abcd", signal=np.zeros(SAMPLES))
    twin = ScoreSet(name="y", scores=noise.scores, runs=noise.runs)
    found = pairwise_agreement([noise, twin], [(0, 1)], np.arange(SAMPLES), draws=0).iloc[0]
    assert found["rbo"] < 0.1
    apart = ScoreSet(name="y", scores=noise.scores, runs=tuple("efgh"))
    same = pairwise_agreement([noise, apart], [(0, 1)], np.arange(SAMPLES), draws=0).iloc[0]
    assert same["rbo"] > 0.99


def test_one_shared_run_leaves_nothing():
    x, y = noisy("x", 0, "a"), noisy("y", 1, "a")
    assert pairwise_agreement([x, y], [(0, 1)], np.arange(SAMPLES)).isna().all(axis=None)


def test_the_order_of_samples_does_not_matter_their_ids_do():
    counts = np.random.default_rng(3).integers(0, 3, size=(2, SAMPLES)).astype(float)
    x, y = (ScoreSet(name=n, scores=row[None]) for n, row in zip("xy", counts, strict=True))
    shuffled = np.random.default_rng(4).permutation(SAMPLES)
    u, v = (ScoreSet(name=s.name, scores=s.scores[:, shuffled]) for s in (x, y))
    ids = np.arange(SAMPLES)
    straight = pairwise_agreement([x, y], [(0, 1)], ids, draws=0)
    again = pairwise_agreement([u, v], [(0, 1)], ids[shuffled], draws=0)
    np.testing.assert_allclose(straight["rbo"], again["rbo"])
    # Ties by id agree where nothing else does; random orders of them do not.
    assert straight["rbo"].iloc[0] != pytest.approx(straight["rbo_random_ties"].iloc[0])


def test_both_ways_round_are_the_same():
    x, y = noisy("x", 0, "abcd"), noisy("y", 1, "abcd")
    there, back = (
        pairwise_agreement([x, y], [pair], np.arange(SAMPLES), draws=0) for pair in ((0, 1), (1, 0))
    )
    np.testing.assert_allclose(there, back)
