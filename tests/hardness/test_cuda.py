"""A GPU gives what a CPU gives: the same signals, and on request the same bits each time."""

import numpy as np
import pytest
import torch

from hardness.dynamics.record import INIT, Recording
from hardness.models.options import ModelOptions
from hardness.seeding import Streams
from hardness.signals import logits as logit_signals
from hardness.training import REGIMENS
from hardness.training.options import TrainOptions
from tests.trainings import assert_same_bits, few_digits, with_checkpoints

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]

MODEL = ModelOptions(name="small_cnn", width=4)
EVERY_REGIMEN = pytest.mark.parametrize("name", REGIMENS)


@pytest.fixture(scope="module")
def digits():
    return few_digits()


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    """Convolutions in float32 proper, as the CPU's are."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def train(name, dataset, device, *, resume=None, **options):
    """All that a regimen can record of two epochs, scoring passes included."""
    regimen = REGIMENS[name]
    defaults = {"max_epochs": 2, "batch_size": 64, "lr": 0.01}
    chosen = regimen.options(train=TrainOptions(**defaults | options))
    recording = Recording(passes=tuple(regimen.passes))
    records = regimen.train(
        dataset, MODEL, chosen, Streams(seed=0), device=device, recording=recording, resume=resume
    )
    return with_checkpoints(records)


@EVERY_REGIMEN
def test_a_regimen_records_what_it_records_on_a_cpu(name, digits):
    found, expected = (train(name, digits, device) for device in ("cuda", "cpu"))
    assert [record.epoch for record, _ in found] == [record.epoch for record, _ in expected]
    for (record, _), (other, _) in zip(found, expected, strict=True):
        for mine, theirs in ((record.signals, other.signals), (record.snapshots, other.snapshots)):
            assert mine.keys() == theirs.keys()
            for key, values in theirs.items():
                assert mine[key].dtype == values.dtype, key
                assert mine[key].shape == values.shape, key
                assert np.array_equal(np.isnan(mine[key]), np.isnan(values)), key
        # Before training the weights are the same; afterwards rounding has been carried along.
        if record.epoch == INIT:
            for key, values in other.signals.items():
                np.testing.assert_allclose(record.signals[key], values, rtol=1e-3, atol=1e-5)
        assert record.summary.keys() == other.summary.keys()


@EVERY_REGIMEN
def test_a_deterministic_training_gives_the_same_bits_and_goes_on_to_them(name, digits):
    whole = train(name, digits, "cuda", deterministic=True)
    assert_same_bits(train(name, digits, "cuda", deterministic=True), whole)
    (_, checkpoint) = whole[-2]
    assert_same_bits(train(name, digits, "cuda", deterministic=True, resume=checkpoint), whole[-1:])


@EVERY_REGIMEN
def test_a_training_in_bf16_ends_near_that_in_f32(name, digits):
    ((half, _), (full, _)) = (
        train(name, digits, "cuda", precision=precision)[-1] for precision in ("bf16", "f32")
    )
    for key, value in full.summary.items():
        if key.endswith("_loss"):
            assert half.summary[key] == pytest.approx(value, rel=0.1), key
    assert half.signals.keys() == full.signals.keys()


def test_signals_of_logits_are_those_of_a_cpu():
    generator = torch.Generator().manual_seed(0)
    logits = 30 * torch.randn(5_000, 10, generator=generator)
    labels = torch.randint(10, (5_000,), generator=generator)
    expected = logit_signals.from_logits(logits, labels)
    for name, found in logit_signals.from_logits(logits.cuda(), labels.cuda()).items():
        torch.testing.assert_close(found.cpu(), expected[name], msg=f"{name}: {{}}".format)
