"""ODIN and GradNorm: which way they point, on images from inside and outside the distribution."""

import numpy as np
import pytest
import torch
from hypothesis import given
from pytorch_ood.detector import ODIN, GradNorm
from scipy import stats
from sklearn.metrics import roc_auc_score

from hardness.data.datasets import load
from hardness.data.options import DatasetOptions
from hardness.metrics import distribution
from hardness.metrics.registry import METRICS
from hardness.models.networks import build
from hardness.models.options import ModelOptions
from hardness.seeding import Streams
from hardness.signals import logits as logit_signals
from hardness.training.classifier_passes import classifier_signals
from hardness.training.options import Supervised, TrainOptions
from hardness.training.pixels import Pixels
from hardness.training.supervised import supervised
from tests.strategies import histories

KEYS = ("odin", "odin.unperturbed", "gradnorm")
SEEDED = Streams(seed=0)


@pytest.mark.parametrize("function", [distribution.odin, distribution.gradnorm])
def test_worked_by_hand(function):
    values = np.array([[0.25, 0.5], [0.75, 1.0]])
    assert function(values).tolist() == [0.75, 1.0]
    assert function(values, over="all").tolist() == [0.5, 0.75]


@pytest.mark.parametrize("function", [distribution.odin, distribution.gradnorm])
@given(case=histories(dtype=np.float64, low=0.0))
def test_the_last_epoch_and_the_mean_of_the_seen_ones(function, case):
    values, seen = case
    np.testing.assert_array_equal(function(values, seen), np.where(seen[-1], values[-1], np.nan))
    for i, here in enumerate(seen.T):
        expected = values[here, i].mean() if here.any() else np.nan
        np.testing.assert_allclose(function(values, seen, over="all")[i], expected, rtol=1e-12)


def test_scores_that_differ_in_their_last_digits_keep_their_order():
    """Float32 would make ties of them."""
    close = 0.1 + 1e-12 * np.arange(6.0)
    assert len(np.unique(close.astype(np.float32))) == 1
    for over in ("last", "all"):
        found = distribution.odin(np.stack([close, close, close]), over=over)
        assert (np.diff(found) > 0).all()


@pytest.mark.parametrize("key", [*KEYS, "odin.mean", "gradnorm.mean"])
def test_their_papers_call_small_values_foreign(key):
    assert (METRICS[key].sign, METRICS[key].sign_origin) == (-1, "published")
    assert METRICS[key].labels_used == "none"


class Trained:
    """A network trained on digits, and what the two metrics say of other images."""

    def __init__(self, model):
        self.digits = load(DatasetOptions(name="digits", subset=600), 0.2)
        chosen = Supervised(train=TrainOptions(max_epochs=10, batch_size=64, lr=0.1))
        *_, record = supervised(self.digits, model, chosen, SEEDED)
        tensors = record.checkpoint().tensors
        self.network = build(model, image_shape=(1, 8, 8), n_classes=10, streams=SEEDED).eval()
        self.network.load_state_dict(
            {k.removeprefix("module."): v for k, v in tensors.items() if "module." in k}
        )
        self.pixels = Pixels(self.digits.train.images, torch.device("cpu"))

    def normalised(self, images):
        return self.pixels.normalize(images.float() / 255)

    def hardness(self, images):
        pixels = Pixels(images, torch.device("cpu"), like=self.pixels)
        labels = torch.zeros(len(images), dtype=torch.int64)
        found = classifier_signals(["odin"], self.network, pixels, labels, streams=SEEDED, epoch=0)
        with torch.no_grad():
            emb = self.network.encoder(self.normalised(images))
            found["gradnorm"] = logit_signals.gradnorm_from_head(emb, self.network.head(emb))
        recorded = {name: values[None].numpy() for name, values in found.items()}
        return {key: METRICS[key].sign * METRICS[key].score(recorded) for key in KEYS}


@pytest.fixture(scope="module", params=["small_cnn", "mlp"])
def trained(request):
    sizes = {"small_cnn": 8, "mlp": 32}
    return Trained(ModelOptions(name=request.param, width=sizes[request.param]))


def foreign(held):
    """Images of as many pixels from elsewhere, by name."""
    generator = torch.Generator().manual_seed(0)
    return {
        "noise": torch.randint(256, held.shape, generator=generator, dtype=torch.uint8),
        "a negative": 255 - held,
        "two digits at once": ((held.int() + held.roll(1, 0).int()) // 2).to(torch.uint8),
        "nothing but grey": torch.full_like(held, 128),
    }


@pytest.mark.parametrize("kind", ["noise", "a negative", "two digits at once", "nothing but grey"])
def test_images_from_outside_the_distribution_are_harder(trained, kind):
    held = trained.digits.validation.images
    inside, outside = trained.hardness(held), trained.hardness(foreign(held)[kind])
    for key in KEYS:
        both = np.concatenate([inside[key], outside[key]])
        assert roc_auc_score(np.repeat([0, 1], len(held)), both) > 0.75, key


def test_of_real_images_we_agree_with_pytorch_ood(trained):
    """It works in float32, divides GradNorm by the classes and stays where ODIN's slope is 0."""
    held = trained.digits.validation.images
    ours, x = trained.hardness(held), trained.normalised(held)
    of_head = GradNorm(trained.network, param_filter=lambda name: name == "head.weight")
    np.testing.assert_allclose(ours["gradnorm"], 10 * of_head.predict(x), rtol=1e-4)
    spread = trained.pixels.std.flatten().tolist()
    for key, epsilon in (("odin", 0.0014), ("odin.unperturbed", 0.0)):
        theirs = ODIN(trained.network, eps=epsilon, norm_std=spread).predict(x).numpy()
        np.testing.assert_allclose(ours[key], theirs, rtol=1e-6)
        assert stats.spearmanr(ours[key], theirs).statistic > 0.999


def test_the_step_raises_the_score_of_nearly_every_image(trained):
    """By little: at this temperature all scores are near a tenth."""
    found = trained.hardness(trained.digits.validation.images)
    gain = found["odin.unperturbed"] - found["odin"]
    assert (gain > 0).mean() > 0.9
    assert (gain < 1e-4).all()
    assert ((-found["odin"] > 0.1) & (-found["odin"] < 0.104)).all()
