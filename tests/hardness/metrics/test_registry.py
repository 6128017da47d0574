"""The registry: what joins it, what it refuses, and whose labels a score has seen."""

import dataclasses
import importlib.util
import pkgutil
import typing

import numpy as np
import pytest

import hardness.metrics
from hardness.metrics.registry import METRICS, Metric, labels_used, metric

KEYS = [
    "aum",
    "aum.train",
    "cartography_confidence",
    "cartography_confidence.train",
    "cartography_correctness",
    "cartography_correctness.train",
    "cartography_variability",
    "cartography_variability.train",
    "el2n",
    "energy",
    "energy.mean",
    "feature_norm_mean",
    "feature_norm_std",
    "forgetting_events",
    "forgetting_events.train",
    "fslt",
    "image_compressed_size",
    "image_entropy",
    "image_entropy.channel_mean",
    "image_l2_norm",
    "irreducible_loss",
    "knn_distance",
    "knn_distance.kth",
    "label_quality_normalized_margin",
    "label_quality_normalized_margin.adjusted",
    "label_quality_self_confidence",
    "label_quality_self_confidence.adjusted",
    "learned_first_epoch",
    "learned_first_epoch.train",
    "lid_mle",
    "lid_mle_harmonic",
    "margin",
    "margin.mean",
    "max_softmax",
    "max_softmax.mean",
    "mean_loss",
    "mean_loss.first_half",
    "mean_loss.last",
    "msd_mean",
    "msd_std",
    "predictive_entropy",
    "predictive_entropy.mean",
    "prototypicality",
    "prototypicality.ten_per_class",
    "rho_loss",
    "rho_loss.e5",
    "ssft",
    "ssft.learned",
    "total_variation",
]
ABOUT: dict = {
    "family": "supervised",
    "sign": 1,
    "sign_origin": "hypothesis",
    "labels_used": "own",
    "summary": "for this test",
    "paper": "none",
}
PLUGIN = """
from hardness.metrics import metric

@metric(family="supervised", sign=1, sign_origin="hypothesis", labels_used="own",
        summary="largest loss of any epoch", paper="none", train_variant=True)
def worst_loss(loss):
    return loss.astype(float).max(axis=0)
"""


@pytest.fixture(autouse=True)
def _registry_as_it_was():
    before = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(before)


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_registered_keys():
    ours = [k for k, m in METRICS.items() if _module(m).startswith("hardness.")]
    assert set(KEYS) <= set(ours)
    assert all(METRICS[key].key == key for key in ours)


def test_no_file_is_named_like_a_metric():
    """The metric would replace the file as an attribute of the package."""
    files = {module.name for module in pkgutil.iter_modules(hardness.metrics.__path__)}
    assert not files & {key.partition(".")[0] for key in METRICS}


@pytest.mark.parametrize("key", sorted(METRICS))
def test_every_field_is_one_of_its_choices(key):
    for name, choices in typing.get_type_hints(Metric).items():
        if typing.get_origin(choices) is typing.Literal:
            assert getattr(METRICS[key], name) in typing.get_args(choices)
    assert METRICS[key].paper
    assert METRICS[key].summary
    assert METRICS[key].version >= 1


def test_the_decorated_function_stays_an_ordinary_function():
    def quantity(loss, factor=2.0):
        return factor * loss

    assert metric(**ABOUT)(quantity) is quantity
    assert METRICS["quantity"].function is quantity
    assert METRICS["quantity"].signals == ("loss",)


def test_a_train_variant_reads_the_signals_of_the_training_step():
    assert METRICS["aum"].inputs == {"label_margin": "label_margin"}
    assert METRICS["aum.train"].inputs == {"label_margin": "label_margin.train"}
    signals = {"label_margin": np.array([[1.0]]), "label_margin.train": np.array([[2.0]])}
    assert METRICS["aum"].score(signals).tolist() == [1.0]
    assert METRICS["aum.train"].score(signals).tolist() == [2.0]


def test_a_train_variant_leaves_what_is_no_logit_signal():
    @metric(**ABOUT, train_variant=True)
    def quantity(loss, labels):
        return loss[labels]

    assert METRICS["quantity.train"].signals == ("loss.train", "labels")


def test_a_train_variant_of_an_embedding_metric_is_refused():
    with pytest.raises(ValueError, match="quantity: expected a signal of the training step"):

        @metric(**ABOUT, train_variant=True)
        def quantity(emb):
            return emb

    assert "quantity" not in METRICS


def test_a_variant_fixes_arguments():
    loss = np.array([[4.0], [2.0]])
    assert METRICS["mean_loss.last"].score({"loss": loss}).tolist() == [2.0]
    assert METRICS["mean_loss.first_half"].score({"loss": loss}).tolist() == [4.0]


def test_a_flag_is_given_what_its_signature_asks_for():
    def above(loss):
        return loss[0] > 1

    @metric(**ABOUT, flag=above)
    def quantity(loss, labels):
        return loss[0, labels]

    signals = {"loss": np.array([[1.0, 2.0]]), "labels": np.array([0, 0])}
    assert METRICS["quantity"].flagged(signals).tolist() == [False, True]
    assert METRICS["aum"].flagged(signals) is None


def test_a_parameter_may_be_filled_with_a_signal_of_another_name():
    @metric(**ABOUT, signals={"loss": "loss_holdout"})
    def quantity(loss):
        return loss[0]

    assert METRICS["quantity"].signals == ("loss_holdout",)
    assert METRICS["quantity"].score({"loss_holdout": np.array([[2.0]])}).tolist() == [2.0]


def test_a_signal_that_is_no_parameter_is_refused():
    with pytest.raises(ValueError, match=r"quantity: expected signals among .* loss; got losses"):

        @metric(**ABOUT, signals=("losses",))
        def quantity(loss):
            return loss


def test_a_plugin_joins_and_may_be_loaded_again(tmp_path):
    path = tmp_path / "my_metrics.py"
    path.write_text(PLUGIN)
    load(path, "first")
    load(path, "second")
    copy = tmp_path / "shipped" / "my_metrics.py"
    copy.parent.mkdir()
    copy.write_text(PLUGIN)
    load(copy, "third")
    score = METRICS["worst_loss.train"].score({"loss.train": np.array([[1.0], [3.0]])})
    assert score.tolist() == [3.0]


def test_a_key_cannot_be_taken_from_another_function(tmp_path):
    path = tmp_path / "my_metrics.py"
    path.write_text(PLUGIN.replace("worst_loss", "aum"))
    before = METRICS["aum"]
    with pytest.raises(ValueError, match=r"'aum', which hardness\.metrics\.label_margin"):
        load(path, "thief")
    assert METRICS["aum"] is before


def test_a_metric_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        METRICS["aum"].sign = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "regimen", "seen"),
    [
        ("aum", "supervised", "own"),
        ("aum", "cross_fit", "own"),
        ("max_softmax", "supervised", "own"),
        ("max_softmax", "second_split", "own"),
        ("max_softmax", "cross_fit", "others"),
        ("irreducible_loss", "cross_fit", "own"),
        ("label_quality_self_confidence", "cross_fit", "own"),
        ("lid_mle", "contrastive", "none"),
        ("lid_mle", "autoencoder", "none"),
        ("lid_mle", "supervised", "own"),
        ("lid_mle_harmonic", "contrastive", "none"),
        ("image_entropy", "supervised", "none"),
    ],
)
def test_whose_labels_a_score_has_seen(key, regimen, seen):
    assert labels_used(METRICS[key], regimen) == seen


def test_an_unknown_regimen_is_refused():
    with pytest.raises(ValueError, match="expected a regimen out of supervised"):
        labels_used(METRICS["aum"], "unsupervised")


def test_signs_follow_the_specification():
    low_is_hard = {key.partition(".")[0] for key, m in METRICS.items() if m.sign == -1}
    assert low_is_hard >= {
        "aum",
        "cartography_confidence",
        "cartography_correctness",
        "feature_norm_mean",
        "feature_norm_std",
        "image_l2_norm",
        "label_quality_normalized_margin",
        "label_quality_self_confidence",
        "margin",
        "max_softmax",
        "ssft",
    }
    assert not low_is_hard & {
        "el2n",
        "energy",
        "forgetting_events",
        "fslt",
        "irreducible_loss",
        "lid_mle",
        "mean_loss",
        "rho_loss",
    }


def _module(entry):
    function = getattr(entry.function, "func", entry.function)
    return function.__module__


def test_a_metric_reads_who_was_seen_in_the_phase_of_its_signals():
    assert METRICS["aum"].seen == "seen"
    assert METRICS["aum.train"].seen == "seen.train"
    assert METRICS["max_softmax.mean"].seen == "seen"
    assert METRICS["knn_distance"].seen is None
    margins = np.array([[1.0, 9.0], [3.0, 5.0]])
    seen = np.array([[True, False], [True, True]])
    signals = {"label_margin": margins, "seen": seen, "seen.train": ~seen}
    assert METRICS["aum"].score(signals).tolist() == [2.0, 5.0]
    assert METRICS["aum"].score({"label_margin": margins}).tolist() == [2.0, 7.0]


def test_every_metric_of_runs_says_which_samples_it_leaves_out():
    for key, entry in METRICS.items():
        assert entry.undefined.startswith("NaN") == (entry.scope != "pixels" or "lid" in key), key
    assert METRICS["cartography_variability.train"].undefined == "NaN where seen less than twice"
    assert METRICS["lid_mle_harmonic"].undefined == "NaN where lid_mle is"


def test_a_metric_without_a_docstring_says_nothing_about_what_it_leaves_out():
    metric(**ABOUT)(silent)
    assert METRICS["silent"].undefined == ""


def silent(loss):
    return loss.max(axis=0)
