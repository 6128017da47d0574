"""Scores of the images, computed once for each dataset."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from hardness.data.datasets import Dataset
from hardness.data.source import Samples
from hardness.metrics.registry import METRICS
from sweep.aggregation import aggregate, collected_scores
from sweep.experiment.runs import Configuration

PIXELS = [key for key, metric in METRICS.items() if metric.scope == "pixels"]


def pictures(samples=30, digest="0123456789abcdef" * 4, seed=0):
    generator = torch.manual_seed(seed)
    train = Samples(
        images=torch.randint(0, 256, (samples, 3, 6, 5), generator=generator).byte(),
        labels=torch.arange(samples) % 3,
        sample_ids=torch.arange(samples),
    )
    return Dataset(
        name="toy", classes=("a", "b", "c"), train=train, validation=train,
        columns=pd.DataFrame(index=range(samples)), digest=digest,
    )  # fmt: skip


def refuse(monkeypatch, key):
    """From here on the metric cannot be computed."""

    def function(**_):
        raise AssertionError(key)

    monkeypatch.setitem(METRICS, key, dataclasses.replace(METRICS[key], function=function))


class TestPixelScores:
    def test_they_are_those_of_the_metrics_themselves(self, tmp_path):
        dataset = pictures()
        images = dataset.train.images.permute(0, 2, 3, 1).numpy()
        found = collected_scores.pixel_scores(METRICS, dataset, tmp_path)
        assert [*found] == PIXELS
        for key, raw in found.items():
            if "lid_mle" not in key:
                np.testing.assert_array_equal(raw, METRICS[key].function(images))
        expected = METRICS["lid_mle_pixels"].function(images)
        np.testing.assert_array_equal(found["lid_mle_pixels"], expected)
        assert np.isfinite(found["lid_mle_pixels.harmonic"]).all()

    def test_they_are_computed_once_for_a_dataset(self, tmp_path, monkeypatch):
        before = collected_scores.pixel_scores(PIXELS, pictures(), tmp_path)
        for key in PIXELS:
            refuse(monkeypatch, key)
        after = collected_scores.pixel_scores(PIXELS, pictures(), tmp_path)
        assert [*after] == [*before]
        for key in PIXELS:
            np.testing.assert_array_equal(after[key], before[key])
        with pytest.raises(AssertionError):
            collected_scores.pixel_scores(PIXELS, pictures(digest="f" * 64), tmp_path)

    def test_only_what_is_missing_is_computed(self, tmp_path, monkeypatch):
        first = collected_scores.pixel_scores(["image_entropy"], pictures(), tmp_path)
        refuse(monkeypatch, "image_entropy")
        found = collected_scores.pixel_scores(
            ["image_entropy", "image_l2_norm"], pictures(), tmp_path
        )
        np.testing.assert_array_equal(found["image_entropy"], first["image_entropy"])
        assert collected_scores.pixel_scores(["aum"], pictures(), tmp_path) == {}

    def test_another_version_is_computed_anew(self, tmp_path, monkeypatch):
        collected_scores.pixel_scores(["image_entropy"], pictures(), tmp_path)
        mended = dataclasses.replace(
            METRICS["image_entropy"], version=99, function=lambda images: np.full(len(images), 5.0)
        )
        monkeypatch.setitem(METRICS, "image_entropy", mended)
        found = collected_scores.pixel_scores(["image_entropy"], pictures(), tmp_path)
        assert (found["image_entropy"] == 5.0).all()

    def test_a_cache_that_cannot_be_read_is_replaced(self, tmp_path):
        expected = collected_scores.pixel_scores(["image_entropy"], pictures(), tmp_path)
        (file,) = (tmp_path / "scores").iterdir()
        file.write_bytes(b"PAR1 no more")
        found = collected_scores.pixel_scores(["image_entropy"], pictures(), tmp_path)
        np.testing.assert_array_equal(found["image_entropy"], expected["image_entropy"])


def test_metrics_that_leave_out_more_than_one_sample_in_a_hundred_are_named():
    full = np.random.default_rng(0).random((2, 200))
    some, few = full.copy(), full.copy()
    some[0, :2] = some[1, 1:3] = np.nan  # three samples, each of some run
    few[:, :2] = np.nan  # exactly one in a hundred
    one = collected_scores.ConfigurationScores(
        configuration=Configuration(
            regimen="supervised", numerics_version=1, dataset={}, model={}, options={}
        ),
        parameters={"train.lr": 0.2},
        seeds=(0, 1),
        runs=("a", "b"),
        sample_ids=np.arange(200),
        labels=np.arange(200) % 2,
        raw={"aum": full, "lid_mle": some, "el2n": few},
        flags={},
        missing={},
        objective=0.9,
    )
    (note,) = aggregate._without_score([one])
    assert note.startswith("supervised train.lr=0.2: no score for 3 of 200 samples by lid_mle (NaN")
