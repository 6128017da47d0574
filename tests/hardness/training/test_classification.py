"""What a clean evaluation says of the validation samples."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import top_k_accuracy_score

from hardness.models.networks import build
from hardness.models.options import ModelOptions
from hardness.seeding import Streams
from hardness.signals import logits as logit_signals
from hardness.training.classification import validate, within_top
from hardness.training.pixels import Pixels


def test_top5_agrees_with_scikit_learn():
    generator = torch.manual_seed(0)
    logits, labels = torch.randn(500, 20, generator=generator), torch.randint(20, (500,))
    expected = top_k_accuracy_score(labels, logits, k=5, labels=np.arange(20))
    assert 0.1 < expected < 0.5
    assert within_top(logits, labels, 5).double().mean() == pytest.approx(expected)


def test_top5_counts_equal_logits_from_the_lowest_class():
    # A network that says nothing is right for the first five of ten classes.
    logits, labels = torch.zeros(10, 10), torch.arange(10)
    assert within_top(logits, labels, 5).tolist() == [True] * 5 + [False] * 5


def test_top5_counts_a_row_with_nan_as_wrong():
    logits = torch.tensor([[0.0, torch.nan, 1.0], [0.0, 1.0, 1.0]])
    assert within_top(logits, torch.tensor([2, 0]), 5).tolist() == [False, True]


@given(
    logits=arrays(
        np.float32,
        (6, 3),
        elements=st.sampled_from([-math.inf, -1.0, 0.0, 2.0, math.inf, math.nan]),
    ),
    labels=st.lists(st.integers(0, 2), min_size=6, max_size=6),
)
def test_the_largest_logit_is_that_of_the_signal(logits, labels):
    logits, labels = torch.from_numpy(logits), torch.tensor(labels)
    assert within_top(logits, labels, 1).equal(logit_signals.correct_from_logits(logits, labels))


@pytest.mark.parametrize(("n_classes", "has"), [(9, False), (10, True)])
def test_top5_is_told_of_ten_classes_or_more(n_classes, has):
    streams = Streams(seed=0)
    options = ModelOptions(name="mlp", width=4)
    network = build(options, image_shape=(1, 4, 4), n_classes=n_classes, streams=streams)
    images = torch.randint(256, (20, 1, 4, 4), dtype=torch.uint8)
    pixels = Pixels(images, torch.device("cpu"))
    found = validate(network, pixels, torch.arange(20) % n_classes)
    assert ("val_accuracy_top5" in found) == has
    if has:
        assert found["val_accuracy_top5"] >= found["val_accuracy"]
