"""What holds for every metric of the registry, whatever it computes."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_blobs

from hardness.metrics.registry import METRICS
from hardness.signals import logits as logit_signals
from hardness.signals.names import LOGIT_SIGNALS
from hardness.signals.neighbors import neighbors
from hardness.training import REGIMENS

EPOCHS = 21  # so that every metric has the epochs that it asks for
SPLITS = {"correct_first_split", "correct_second_split"}
MOVES = {"msd", "msd_cosine"}
# Anything from 0 will do: what makes them is tested where they are made.
FROM_ZERO = {s for r in REGIMENS.values() for each in r.passes.values() for s in each.signals}
FROM_ZERO |= {"feature_norm", "grand_last_layer", "gradnorm", "reconstruction_error", "own_loss"}
HISTORY = {*LOGIT_SIGNALS, *MOVES, *FROM_ZERO, *SPLITS}
HISTORY |= {f"{name}.train" for name in LOGIT_SIGNALS}
GRAPH = {"neighbor_distances", "neighbor_rows"}
OF_ALL = {"n_classes", "lr"}
SUPPLIED = HISTORY | GRAPH | OF_ALL | {"emb", "labels", "images", "pixel_distances"}
SUPPLIED |= {"holdout_loss", "holdout_probs"}

KEYS = sorted(key for key, m in METRICS.items() if {*m.signals} <= SUPPLIED)
FROM_HISTORIES = [key for key in KEYS if {*METRICS[key].signals} <= HISTORY | {"lr"}]
FROM_ROWS = [
    key
    for key in KEYS
    if not METRICS[key].whole
    and not {*METRICS[key].signals} & {"emb", "n_classes", "neighbor_rows"}
    and not key.endswith(".adjusted")
]  # each sample alone, once its neighbors' distances are known
NO_FLOATS = {"correct", "correct.train", *SPLITS, "images"}
FROM_FLOATS = [key for key in FROM_ROWS if not {*METRICS[key].signals} & NO_FLOATS]
# The epoch that a metric of some epochs reads in any case; the last one, if not here.
READS = {
    "mean_loss.first_half": 0, "aum_pre_decay": 0, "aum_pre_decay.train": 0,
    "el2n.e1": 0, "el2n.e5": 4, "el2n.e10": 9, "el2n.e20": 19,
}  # fmt: skip
# Of k-means with nearly as many clusters as samples, and of random cuts: another order of the
# samples is another draw.
BY_DRAW = ("prototypicality.ten_per_class", "isolation_forest")


@functools.cache
def _recorded(epochs, samples, classes, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    logits = 3 * rng.standard_normal((2, epochs, samples, classes)).astype(np.float32)
    found = {"labels": labels, "n_classes": classes}
    for suffix, history in zip(("", ".train"), logits, strict=True):
        rows = logit_signals.from_logits(history.reshape(-1, classes), np.tile(labels, epochs))
        found |= {f"{name}{suffix}": v.reshape(epochs, samples) for name, v in rows.items()}
    for name in sorted(SPLITS):
        found[name] = rng.random((epochs, samples)) < 0.5
    found["correct_first_split"][-1] = True  # all learned at the switch
    for name in sorted(MOVES | FROM_ZERO):
        found[name] = rng.random((epochs, samples)).astype(np.float32)
    for name in MOVES:
        found[name][0] = np.nan
    found["lr"] = np.where(np.arange(epochs) < 12, 0.1, 0.01)
    found["holdout_loss"] = rng.random(samples).astype(np.float32)
    found["holdout_probs"] = rng.dirichlet(np.ones(classes), samples)
    found["emb"] = make_blobs(samples, 5, centers=classes, random_state=seed)[0].astype(np.float32)
    found |= graph(found["emb"])
    found["images"] = rng.integers(0, 256, (samples, 6, 5, 3), dtype=np.uint8)
    nearest = rng.random((samples, min(20, samples - 1)))
    found["pixel_distances"] = np.sort(nearest + 0.1, axis=1)
    for values in found.values():
        if isinstance(values, np.ndarray):
            values.flags.writeable = False
    return found


def recorded(epochs=EPOCHS, samples=40, classes=3, seed=0):
    """What a run of that size would supply, by name; arrays cannot be written to."""
    return dict(_recorded(epochs, samples, classes, seed))


def graph(emb):
    """The neighbors that a run keeps of its embedding."""
    distances, rows = neighbors(torch.tensor(emb), 20, normalize=True)
    return {"neighbor_distances": distances.numpy(), "neighbor_rows": rows.numpy()}


def rows_of(found, rows):
    """The same run with only these samples, in this order."""
    chosen = {}
    for name, values in found.items():
        kept = name in OF_ALL
        chosen[name] = values if kept else values[:, rows] if name in HISTORY else values[rows]
    return chosen | graph(chosen["emb"])


def test_nothing_is_left_out():
    ours = {k for k, m in METRICS.items() if m.scope != "seeds"}
    assert len(KEYS) >= 60
    assert {*KEYS} <= ours


@pytest.mark.parametrize("key", KEYS)
def test_one_finite_float64_per_sample(key):
    samples = 40
    raw = METRICS[key].score(recorded(samples=samples))
    assert raw.shape == (samples,)
    assert raw.dtype == np.float64
    assert np.isfinite(raw).all()


@pytest.mark.parametrize("key", KEYS)
def test_recorded_arrays_are_not_written_to(key):
    found = recorded()
    assert not any(v.flags.writeable for v in found.values() if isinstance(v, np.ndarray))
    METRICS[key].score(found)
    METRICS[key].flagged(found)


@pytest.mark.parametrize("key", KEYS)
def test_a_score_repeats(key):
    np.testing.assert_array_equal(METRICS[key].score(recorded()), METRICS[key].score(recorded()))


@pytest.mark.parametrize("key", KEYS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5)
def test_permuting_samples_permutes_scores(key, seed):
    order = np.random.default_rng(seed).permutation(40)
    raw = METRICS[key].score(recorded())
    permuted = METRICS[key].score(rows_of(recorded(), order))
    if key in BY_DRAW:
        assert abs(permuted.mean() - raw.mean()) < 0.05
    else:
        np.testing.assert_allclose(permuted, raw[order], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("key", FROM_ROWS)
def test_a_score_ignores_the_other_samples(key):
    found, others = recorded(), recorded(seed=1)
    raw = METRICS[key].score(found)
    mixed = {}
    for name, values in found.items():
        mixed[name] = values
        if name not in OF_ALL:
            mixed[name] = np.array(others[name])
            first = (slice(None), 0) if name in HISTORY else 0
            mixed[name][first] = values[first]
    assert METRICS[key].score(mixed)[0] == raw[0]


@pytest.mark.parametrize("key", FROM_FLOATS)
def test_nan_in_gives_nan_for_that_sample_alone(key):
    found = recorded()
    raw = METRICS[key].score(found)
    for name in {*METRICS[key].signals} - OF_ALL - {"labels"}:
        found[name] = np.array(found[name])
        found[name][(slice(None), 0) if name in HISTORY else 0] = np.nan
    spoiled = METRICS[key].score(found)
    assert np.isnan(spoiled[0])
    np.testing.assert_array_equal(spoiled[1:], raw[1:])


@pytest.mark.parametrize("key", [k for k in FROM_FLOATS if k in FROM_HISTORIES])
def test_one_nan_epoch_is_not_imputed(key):
    """A discrepancy takes it for an epoch that the sample does not have, as one not seen."""
    found = recorded()
    for name in {*METRICS[key].signals} - OF_ALL:
        found[name] = np.array(found[name])
        found[name][READS.get(key, -1), 0] = np.nan
    raw = METRICS[key].score(found)
    if "discrepancy" in key:
        seen = np.ones(found[name].shape, bool)
        seen[-1, 0] = False
        np.testing.assert_array_equal(METRICS[key].function(recorded()[name], seen=seen), raw)
        assert raw[0] != METRICS[key].score(recorded())[0]
    else:
        assert np.isnan(raw[0])


@pytest.mark.parametrize("key", [k for k in KEYS if "emb" in METRICS[k].signals])
def test_an_embedding_with_nan_has_no_score(key):
    found = recorded()
    found["emb"] = np.array(found["emb"])
    found["emb"][3, 1] = np.nan
    raw = METRICS[key].score(found)
    assert np.flatnonzero(np.isnan(raw)).tolist() == [3]


@pytest.mark.parametrize("key", KEYS)
def test_one_epoch(key):
    raw = METRICS[key].score(recorded(epochs=1))
    spreads = ("msd_", "feature_norm_std", "lgn_std", "cartography_variability")
    later = "discrepancy" in key or key in ("el2n.e5", "el2n.e10", "el2n.e20", "rho_loss.e5")
    assert np.isnan(raw).all() == (later or key.startswith(spreads))
    assert np.isnan(raw).any() == np.isnan(raw).all()


@pytest.mark.parametrize("key", KEYS)
def test_one_sample(key):
    raw = METRICS[key].score(recorded(samples=1, classes=1))
    lonely = ("knn_", "lid_mle", "lof", "isolation_forest", "prototypicality.ten_per_class")
    within_class = ("vog_class_z",)
    without_a_second_class = ("aum", "margin", "label_quality_normalized_margin")
    assert raw.shape == (1,)
    lacking = (*lonely, *within_class, *without_a_second_class)
    assert np.isnan(raw).all() == key.startswith(lacking)


@pytest.mark.parametrize("key", KEYS)
def test_one_class(key):
    raw = METRICS[key].score(recorded(classes=1))
    without = ("aum", "margin", "label_quality_normalized_margin")
    assert np.isnan(raw).all() == key.startswith(without)


@pytest.mark.parametrize("key", FROM_ROWS)
def test_no_samples(key):
    assert METRICS[key].score(rows_of(recorded(), np.arange(0))).shape == (0,)


@pytest.mark.parametrize("key", [k for k in KEYS if k not in FROM_HISTORIES])
def test_duplicates_score_alike(key):
    found = rows_of(recorded(samples=20), np.repeat(np.arange(20), 2))
    raw = METRICS[key].score(found)
    np.testing.assert_array_equal(raw[::2], raw[1::2])
    assert np.isfinite(raw).all()


@pytest.mark.parametrize("key", FROM_HISTORIES)
def test_seen_everywhere_is_the_same_as_not_saying_so(key):
    found = recorded()
    entry = METRICS[key]
    raw = entry.score(found)
    inputs = {name: found[signal] for name, signal in entry.inputs.items()}
    shape = recorded()["loss"].shape
    np.testing.assert_array_equal(entry.function(**inputs, seen=np.ones(shape, bool)), raw)
    assert np.isnan(entry.function(**inputs, seen=np.zeros(shape, bool))).all()


@pytest.mark.parametrize("key", FROM_HISTORIES)
@given(data=st.data())
@settings(max_examples=20)
def test_what_is_not_seen_does_not_count(key, data):
    """Whatever stands in the entries that were not seen, NaN included."""
    entry, seed = METRICS[key], data.draw(st.integers(0, 100))
    seen = np.random.default_rng(seed).random((EPOCHS, 40)) < data.draw(st.floats(0, 1))
    one, two = recorded(seed=seed), recorded(seed=seed + 1)
    given = {name: one[signal] for name, signal in entry.inputs.items() if signal in OF_ALL}
    first = {name: one[signal] for name, signal in entry.inputs.items() if signal not in OF_ALL}
    other = {name: np.where(seen, v, two[entry.inputs[name]]) for name, v in first.items()}
    raw = entry.function(**first, **given, seen=seen)
    np.testing.assert_array_equal(entry.function(**other, **given, seen=seen), raw)
    blank = {n: np.where(seen, v, np.nan) if v.dtype != bool else v for n, v in first.items()}
    blank = {n: v.astype(np.float32) if v.dtype != bool else v for n, v in blank.items()}
    np.testing.assert_array_equal(entry.function(**blank, **given, seen=seen), raw)
