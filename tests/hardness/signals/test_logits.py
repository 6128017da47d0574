"""Signals against hand computations, against torch and scipy, and against their own symmetries."""

import inspect
import re

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import entr, logsumexp, softmax

from hardness.signals import blocks
from hardness.signals import embeddings as embedding_signals
from hardness.signals import logits as logit_signals
from hardness.signals.names import LOGIT_SIGNALS
from tests.strategies import embeddings, logits

WITH_LABELS = ("loss", "p_label", "label_margin", "correct", "el2n")


def one(name, z, y):
    function = getattr(logit_signals, f"{name}_from_logits")
    return function(z, y) if name in WITH_LABELS else function(z)


def unchecked(function):
    """The function without the suite's shape checks, as a user calls it."""
    return inspect.unwrap(function)


def slow(name, z, y):
    """The definition, one sample at a time."""
    z = z.astype(np.float64)
    p = softmax(z)
    others = np.delete(z, y)
    ranked = np.sort(p)[::-1]
    return {
        "loss": lambda: logsumexp(z) - z[y],
        "p_label": lambda: p[y],
        "label_margin": lambda: z[y] - others.max() if len(others) else np.nan,
        "correct": lambda: np.flatnonzero(z == z.max())[0] == y,
        "entropy": lambda: entr(p).sum(),
        "el2n": lambda: np.linalg.norm(p - np.eye(len(z))[y]),
        "max_softmax": p.max,
        "margin": lambda: ranked[0] - ranked[1] if len(others) else np.nan,
        "energy": lambda: -logsumexp(z),
    }[name]()


def test_worked_by_hand():
    z = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    found = logit_signals.from_logits(z, np.array([0, 1]))
    expected = {
        "loss": [np.log(2), np.log(10)],
        "p_label": [0.5, 0.1],
        "label_margin": [np.log(2), -np.log(8)],
        "correct": [True, False],
        "entropy": [1.5 * np.log(2), 0.2 * np.log(10) - 0.8 * np.log(0.8)],
        "el2n": [np.sqrt(0.375), np.sqrt(0.01 + 0.81 + 0.64)],
        "max_softmax": [0.5, 0.8],
        "margin": [0.25, 0.7],
        "energy": [0.0, 0.0],
    }
    assert tuple(found) == tuple(expected) == LOGIT_SIGNALS
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("name", LOGIT_SIGNALS)
@given(case=logits())
def test_equals_the_definition(name, case):
    z, y = case
    expected = [slow(name, row, label) for row, label in zip(z, y, strict=True)]
    np.testing.assert_allclose(one(name, z, y), expected, rtol=1e-9, atol=1e-12)


@given(case=logits())
def test_one_pass_equals_the_single_functions(case):
    for name, values in logit_signals.from_logits(*case).items():
        alone = one(name, *case)
        assert values.dtype == (bool if name == "correct" else np.float32)
        assert alone.dtype == (bool if name == "correct" else np.float64)
        np.testing.assert_array_equal(values, alone.astype(values.dtype), err_msg=name)


def test_how_an_array_lies_in_memory_does_not_matter():
    rng = np.random.default_rng(0)
    values: np.ndarray = rng.normal(size=(9, 4)).astype(np.float32)
    labels: np.ndarray = rng.integers(0, 4, 9)
    expected = logit_signals.from_logits(values, labels)
    backwards = values[::-1].copy()[::-1], labels[::-1].copy()[::-1]
    foreign = (x.astype(x.dtype.newbyteorder()) for x in (values, labels))
    for case in (backwards, foreign, (np.asfortranarray(values), labels.astype(np.uint8))):
        found = logit_signals.from_logits(*case)
        for name in LOGIT_SIGNALS:
            np.testing.assert_array_equal(found[name], expected[name])


@given(case=logits())
def test_tensors_give_tensors_of_the_same_values(case):
    z, y = case
    tensors = logit_signals.from_logits(torch.tensor(z), torch.tensor(y))
    for name, values in logit_signals.from_logits(z, y).items():
        assert isinstance(tensors[name], torch.Tensor)
        np.testing.assert_array_equal(tensors[name].numpy(), values)


@given(case=logits(), shift=st.floats(-30, 30))
def test_a_constant_added_to_a_row_changes_nothing_but_the_energy(case, shift):
    z, y = case[0].astype(np.float64), case[1]
    for name in LOGIT_SIGNALS:
        before, after = one(name, z, y), one(name, z + shift, y)
        if name == "energy":
            np.testing.assert_allclose(after, before - shift, atol=1e-9)
        elif name != "correct":  # rounding of the sum may break or make a tie
            np.testing.assert_allclose(after, before, rtol=1e-7, atol=1e-9)


@given(case=logits(), data=st.data())
def test_permuting_samples_permutes_signals(case, data):
    z, y = case
    order = np.array(data.draw(st.permutations(range(len(z)))))
    for name, values in logit_signals.from_logits(z, y).items():
        permuted = logit_signals.from_logits(z[order], y[order])[name]
        np.testing.assert_array_equal(permuted, values[order])


@given(case=logits(min_classes=2))
def test_bounds(case):
    z, y = case
    s = {name: one(name, z, y) for name in LOGIT_SIGNALS}
    classes = z.shape[1]
    slack = 1e-12
    assert (s["loss"] >= 0).all()
    assert ((s["p_label"] >= 0) & (s["p_label"] <= s["max_softmax"] + slack)).all()
    assert ((s["entropy"] >= 0) & (s["entropy"] <= np.log(classes) + slack)).all()
    assert ((s["el2n"] >= 0) & (s["el2n"] <= np.sqrt(2) + slack)).all()
    assert ((s["max_softmax"] >= 1 / classes - slack) & (s["max_softmax"] <= 1)).all()
    assert ((s["margin"] >= 0) & (s["margin"] <= 1)).all()
    assert all(np.isfinite(values).all() for values in s.values())


@pytest.mark.parametrize("classes", [2, 3, 33, 1000])
def test_equal_logits_are_correct_for_the_lowest_class_alone(classes):
    z = torch.zeros(classes, classes)
    assert logit_signals.correct_from_logits(z, torch.arange(classes)).tolist() == [True] + [
        False
    ] * (classes - 1)


@pytest.mark.parametrize("temperature", [2, np.float32(2)])
def test_a_temperature_may_be_any_number(temperature):
    z = np.array([[2.0, 0.0], [0.0, 1.0]])
    np.testing.assert_array_equal(
        logit_signals.energy_from_logits(z, temperature), logit_signals.energy_from_logits(z, 2.0)
    )


def test_a_tie_has_no_margin():
    z = np.array([[3.0, 3.0, 0.0]])
    assert logit_signals.margin_from_logits(z).tolist() == [0.0]
    assert logit_signals.label_margin_from_logits(z, np.array([1])).tolist() == [0.0]
    assert logit_signals.label_margin_from_logits(z, np.array([2])).tolist() == [-3.0]


def test_one_class_has_no_margin_and_no_doubt():
    s = logit_signals.from_logits(np.array([[5.0], [-5.0]]), np.array([0, 0]))
    assert np.isnan(s["margin"]).all()
    assert np.isnan(s["label_margin"]).all()
    assert s["correct"].all()
    assert (s["p_label"] == 1).all()
    for name in ("loss", "entropy", "el2n"):
        assert (s[name] == 0).all()


def test_logits_that_overflow_a_softmax():
    z = np.array([[1e4, -1e4], [3e38, -3e38]], dtype=np.float32)
    s = logit_signals.from_logits(z, np.array([1, 0]))
    assert s["loss"][0] == np.float32(2e4)
    assert s["loss"][1] == 0
    assert (s["entropy"] == 0).all()
    np.testing.assert_allclose(logit_signals.el2n_from_logits(z, np.array([1, 0])), [np.sqrt(2), 0])


def test_an_excluded_class_counts_as_probability_zero():
    z = np.array([[0.0, 0.0, -np.inf]])
    assert logit_signals.entropy_from_logits(z).tolist() == pytest.approx([np.log(2)])
    assert logit_signals.loss_from_logits(z, np.array([2])).tolist() == [np.inf]
    assert logit_signals.label_margin_from_logits(z, np.array([0])).tolist() == [0.0]


def test_loss_of_a_learned_sample_keeps_its_digits():
    z = np.array([[30.0, 0.0]], dtype=np.float32)
    assert logit_signals.loss_from_logits(z, np.array([0]))[0] == pytest.approx(
        np.exp(-30.0), rel=1e-2
    )


@pytest.mark.parametrize("name", LOGIT_SIGNALS)
def test_nan_stays_in_its_row(name):
    z, y = np.array([[1.0, 0.0], [np.nan, 0.0], [0.0, np.nan]]), np.array([0, 0, 0])
    values = one(name, z, y)
    assert values[0] == one(name, z[:1], y[:1])[0]
    assert not values[1:].any() if name == "correct" else np.isnan(values[1:]).all()


def test_no_samples():
    s = logit_signals.from_logits(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    assert all(values.shape == (0,) for values in s.values())


@pytest.mark.parametrize("block", [1, 2, 7])
def test_blocks_do_not_show(monkeypatch, block):
    z, y = torch.randn(11, 3, generator=torch.manual_seed(0)), torch.arange(11) % 3
    whole = logit_signals.from_logits(z, y)
    monkeypatch.setattr(blocks, "_CPU_BLOCK", block)
    for name, values in logit_signals.from_logits(z, y).items():
        assert torch.equal(values, whole[name])


def test_reads_arrays_that_are_read_only_or_backwards_and_half_precision():
    z, y = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0, 0])
    z.flags.writeable = False
    forwards = logit_signals.loss_from_logits(z, y)
    assert logit_signals.loss_from_logits(z[::-1], y[::-1]).tolist() == forwards[::-1].tolist()
    half = logit_signals.loss_from_logits(
        torch.tensor(z.copy(), dtype=torch.bfloat16), torch.tensor(y)
    )
    assert half.tolist() == forwards.tolist()


def test_a_gradient_is_not_carried():
    z = torch.zeros(2, 3, requires_grad=True)
    assert not logit_signals.loss_from_logits(z, torch.tensor([0, 1])).requires_grad


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_a_label_outside_the_classes_is_refused(labels):
    with pytest.raises(ValueError, match=r"labels in 0 to 2; got (0 to 3|-1 to 0)"):
        logit_signals.from_logits(np.zeros((2, 3)), np.array(labels))


@pytest.mark.parametrize("name", WITH_LABELS)
def test_labels_of_another_length_are_refused(name):
    with pytest.raises(ValueError, match="one label for each of 2 samples"):
        unchecked(getattr(logit_signals, f"{name}_from_logits"))(
            np.zeros((2, 3)), np.zeros(3, dtype=int)
        )


@pytest.mark.parametrize("shape", [(2,), (2, 0), (2, 3, 4)])
def test_logits_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="at least one class"):
        unchecked(logit_signals.entropy_from_logits)(np.zeros(shape))


@given(case=logits(), temperature=st.floats(0.1, 10))
def test_energy_at_a_temperature(case, temperature):
    z = case[0].astype(np.float64)
    expected = -temperature * logsumexp(z / temperature, axis=1)
    np.testing.assert_allclose(
        logit_signals.energy_from_logits(z, temperature), expected, rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(
        logit_signals.energy_from_logits(torch.tensor(case[0]), temperature).numpy(),
        expected,
        rtol=1e-9,
        atol=1e-9,
    )


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="positive temperature"):
        logit_signals.energy_from_logits(np.zeros((1, 2)), temperature)


def test_embedding_signals_worked_by_hand():
    now, before = np.array([[3.0, 4.0], [1.0, 1.0]]), np.array([[3.0, 0.0], [0.0, 1.0]])
    assert embedding_signals.feature_norm_from_embeddings(now).tolist() == [12.5, 1.0]
    assert embedding_signals.msd_from_embeddings(now, before).tolist() == [8.0, 0.5]


def test_msd_accumulates_small_movements_of_large_embeddings():
    before = torch.full((2, 4096), 1000.0)
    now = before + 2**-10
    assert embedding_signals.msd_from_embeddings(now, before).tolist() == [2.0**-20] * 2


@given(emb=embeddings(epochs=st.just(2)))
def test_msd_is_symmetric_and_zero_without_movement(emb):
    new, old = emb
    assert (embedding_signals.msd_from_embeddings(new, new) == 0).all()
    if new.any() and old.any():
        np.testing.assert_array_equal(
            embedding_signals.msd_from_embeddings(new, old),
            embedding_signals.msd_from_embeddings(old, new),
        )
        tensors = embedding_signals.msd_from_embeddings(torch.tensor(new), torch.tensor(old))
        np.testing.assert_allclose(
            tensors.numpy(), embedding_signals.msd_from_embeddings(new, old), rtol=1e-12
        )


def test_a_previous_epoch_of_zeros_would_give_the_feature_norm_and_is_refused():
    emb = np.array([[3.0, 4.0], [1.0, 2.0]])
    published = ((emb - np.zeros_like(emb)) ** 2).mean(axis=1)
    np.testing.assert_array_equal(published, embedding_signals.feature_norm_from_embeddings(emb))
    assert not np.allclose(embedding_signals.msd_from_embeddings(emb, emb + 1.0), published)
    with pytest.raises(ValueError, match="all zeros"):
        embedding_signals.msd_from_embeddings(emb, np.zeros_like(emb))


def test_msd_of_different_shapes_is_refused():
    with pytest.raises(ValueError, match="one shape"):
        unchecked(embedding_signals.msd_from_embeddings)(np.ones((2, 3)), np.ones((3, 3)))


def test_reconstruction_error_worked_by_hand():
    """Two channels of one pixel."""
    images = torch.tensor([[[[0.0]], [[1.0]]], [[[0.5]], [[0.5]]]])
    again = torch.tensor([[[[0.5]], [[1.0]]], [[[0.5]], [[0.5]]]])
    assert embedding_signals.reconstruction_error_from_images(again, images).tolist() == [
        0.125,
        0.0,
    ]
    assert embedding_signals.reconstruction_error_from_images(
        again.numpy(), images.numpy()
    ).tolist() == [
        0.125,
        0.0,
    ]


def test_reconstruction_error_does_not_show_its_blocks(monkeypatch):
    images, again = torch.rand(2, 50, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = embedding_signals.reconstruction_error_from_images(again, images)
    monkeypatch.setattr(blocks, "_CPU_BLOCK", 500)
    assert torch.equal(embedding_signals.reconstruction_error_from_images(again, images), whole)
    expected = (again.double() - images.double()).square().flatten(1).mean(1)
    torch.testing.assert_close(whole, expected, rtol=1e-12, atol=0)


def test_a_reconstruction_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="expected a reconstruction of the images' shape"):
        unchecked(embedding_signals.reconstruction_error_from_images)(
            np.ones((2, 3)), np.ones((2, 4))
        )


def test_turns_worked_by_hand():
    now = np.array([[0.0, 2.0], [3.0, 3.0], [-1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [4.0, 0.0]])
    before = np.array([[0.0, 9.0], [1.0, 0.0], [2.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    expected = [0.0, 1 - np.sqrt(0.5), 2.0, 0.0, 1.0, 1.0]
    np.testing.assert_allclose(
        embedding_signals.msd_cosine_from_embeddings(now, before), expected, atol=1e-15
    )


@given(emb=embeddings(epochs=st.just(2)))
def test_turns_agree_with_torch_and_are_symmetric(emb):
    old, new = emb
    assume(old.any() and new.any())
    raw = embedding_signals.msd_cosine_from_embeddings(new, old)
    np.testing.assert_allclose(
        raw, embedding_signals.msd_cosine_from_embeddings(old, new), atol=1e-15
    )
    assert (embedding_signals.msd_cosine_from_embeddings(new, new) == 0).all()
    similarity = torch.nn.functional.cosine_similarity(
        torch.tensor(new).double(), torch.tensor(old).double(), eps=1e-300
    )
    moved = new.any(axis=1) | old.any(axis=1)
    np.testing.assert_allclose(raw[moved], 1 - similarity.numpy()[moved], atol=1e-12)
    assert (raw[~moved] == 0).all()
    tensors = embedding_signals.msd_cosine_from_embeddings(torch.tensor(new), torch.tensor(old))
    np.testing.assert_array_equal(tensors.numpy(), raw)


def test_a_small_turn_keeps_its_digits():
    now = np.array([[1e3, 1e-4]], dtype=np.float32)
    before = np.array([[1e3, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(
        embedding_signals.msd_cosine_from_embeddings(now, before), [0.5e-14], rtol=1e-6
    )


@pytest.mark.parametrize("block", [1, 3])
def test_turns_in_blocks_and_with_a_nan(monkeypatch, block):
    rng = np.random.default_rng(0)
    now, before = rng.standard_normal((2, 9, 4))
    now[4, 1] = np.nan
    whole = embedding_signals.msd_cosine_from_embeddings(now, before)
    monkeypatch.setattr(blocks, "_CPU_BLOCK", block * 4)
    np.testing.assert_array_equal(embedding_signals.msd_cosine_from_embeddings(now, before), whole)
    assert np.isnan(whole).nonzero()[0].tolist() == [4]


def test_turns_from_a_buffer_that_was_never_written_are_refused():
    emb = np.random.default_rng(0).standard_normal((5, 3))
    with pytest.raises(ValueError, match="got all zeros"):
        embedding_signals.msd_cosine_from_embeddings(emb, np.zeros_like(emb))
    with pytest.raises(ValueError, match="embeddings of one shape"):
        unchecked(embedding_signals.msd_cosine_from_embeddings)(np.ones((2, 3)), np.ones((3, 3)))


@pytest.mark.parametrize("shape", [(4,), (2, 4, 3)])
def test_embeddings_of_other_axes_are_refused(shape):
    emb, logits = np.ones(shape), np.ones((shape[0], 2))
    message = rf"expected emb \[samples, width\]; got shape {re.escape(str(shape))}"
    with pytest.raises(ValueError, match=message):
        unchecked(embedding_signals.feature_norm_from_embeddings)(emb)
    for function in (
        embedding_signals.msd_from_embeddings,
        embedding_signals.msd_cosine_from_embeddings,
    ):
        with pytest.raises(ValueError, match=message):
            unchecked(function)(emb, emb)
    with pytest.raises(ValueError, match=message):
        unchecked(logit_signals.grand_last_layer_from_head)(emb, logits, np.zeros(shape[0], int))
    with pytest.raises(ValueError, match=message):
        unchecked(logit_signals.gradnorm_from_head)(emb, logits)
    with pytest.raises(ValueError, match=r"expected logits \[samples, width\]; got shape \(2,\)"):
        unchecked(logit_signals.gradnorm_from_head)(np.ones((2, 3)), np.ones(2))
