"""Scores of losses without labels: which epoch, which signal, which way they point."""

import numpy as np
import pytest
import torch
from hypothesis import given

from hardness.metrics.registry import METRICS, labels_used
from hardness.metrics.self_supervised import (
    reconstruction_error,
    ssl_loss_barlow,
    ssl_loss_ntxent,
    ssl_param_grad_norm,
    ssl_perturbation_gain,
)
from hardness.signals import embeddings as embedding_signals
from hardness.signals.views import barlow_alignment, barlow_influence, ntxent_of_samples
from hardness.training import REGIMENS
from tests.strategies import histories

FUNCTIONS = (
    reconstruction_error,
    ssl_loss_barlow,
    ssl_loss_ntxent,
    ssl_param_grad_norm,
    ssl_perturbation_gain,
)
WITH_MEAN = (reconstruction_error, ssl_loss_ntxent)
READS = {
    "reconstruction_error": "reconstruction_error",
    "reconstruction_error.mean": "reconstruction_error",
    "ssl_loss_barlow": "barlow_influence",
    "ssl_loss_barlow.alignment": "barlow_alignment",
    "ssl_loss_ntxent": "ssl_loss_ntxent",
    "ssl_loss_ntxent.mean": "ssl_loss_ntxent",
    "ssl_param_grad_norm": "ssl_param_grad_norm",
    "ssl_param_grad_norm.l1": "ssl_param_grad_norm.l1",
    "ssl_perturbation_gain": "ssl_perturbation_gain",
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_worked_by_hand(function):
    values = np.array([[0.25, 0.5], [0.75, 1.0]], dtype=np.float32)
    assert function(values).tolist() == [0.75, 1.0]
    if function in WITH_MEAN:
        assert function(values, over="all").tolist() == [0.5, 0.75]


@pytest.mark.parametrize("function", FUNCTIONS)
@given(case=histories(low=0.0, high=1.0))
def test_the_last_scored_epoch_and_the_mean_of_the_seen_ones(function, case):
    values, seen = case
    np.testing.assert_array_equal(function(values, seen), np.where(seen[-1], values[-1], np.nan))
    if function in WITH_MEAN:
        for i, here in enumerate(seen.T):
            expected = values[here, i].astype(np.float64).mean() if here.any() else np.nan
            np.testing.assert_allclose(function(values, seen, over="all")[i], expected, rtol=1e-12)


@pytest.mark.parametrize(("key", "signal"), READS.items())
def test_every_key_reads_its_signal_of_a_regimen_that_records_it(key, signal):
    assert METRICS[key].signals == (signal,)
    regimen = "autoencoder" if key.startswith("reconstruction") else "contrastive"
    assert signal in REGIMENS[regimen].offered
    assert labels_used(METRICS[key], regimen) == "none"
    assert (METRICS[key].family, METRICS[key].sign) == ("loss-based", 1)


def test_what_is_published_says_so():
    origins = {key: METRICS[key].sign_origin for key in READS if "." not in key}
    assert origins == {
        "reconstruction_error": "published",
        "ssl_loss_ntxent": "published",
        "ssl_loss_barlow": "hypothesis",
        "ssl_param_grad_norm": "hypothesis",
        "ssl_perturbation_gain": "hypothesis",
    }


def test_a_sample_whose_views_disagree_scores_harder():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(40, 8, generator=generator)
    b = a + 0.3 * torch.randn(40, 8, generator=generator)
    b[3] = -b[3]
    recorded = {
        "ssl_loss_ntxent": ntxent_of_samples(a, b, 0.5),
        "barlow_influence": barlow_influence(a, b, 5e-3),
        "barlow_alignment": barlow_alignment(a, b),
    }
    found = {name: values.float().numpy()[None] for name, values in recorded.items()}
    for key in ("ssl_loss_ntxent", "ssl_loss_barlow", "ssl_loss_barlow.alignment"):
        assert (METRICS[key].sign * METRICS[key].score(found)).argmax() == 3


def test_an_image_that_is_drawn_badly_scores_harder():
    images = np.array([[[0.0, 1.0]], [[0.5, 0.5]]])
    again = np.array([[[0.5, 0.5]], [[0.5, 0.25]]])
    error = embedding_signals.reconstruction_error_from_images(again, images)
    assert error.tolist() == [0.25, 0.03125]
    assert reconstruction_error(error[None]).argmax() == 0
