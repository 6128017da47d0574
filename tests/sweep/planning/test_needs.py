"""What runs must record, from plain facts: regimens, metrics, what is kept, the dataset's size."""

import pytest

from hardness.metrics.registry import METRICS
from hardness.training import REGIMENS
from sweep.experiment.needs import GIVEN, Keep, Needs, offered

NO_EMBEDDING = Keep(embedding="none")


def of(*metrics, keep=None, **options):
    """The needs of a sweep of every regimen."""
    return Needs.of(REGIMENS, metrics or ("all",), keep or Keep(), None, **options)


def test_only_training_with_labels_offers_the_loss():
    assert "loss" in offered("supervised")
    assert "loss" not in offered("contrastive")
    assert {"msd", "emb", "labels", "images"} <= offered("contrastive")


def test_explicit_metrics_need_their_own_signals_alone():
    signals = of("aum.train", "mean_loss", "prototypicality").signals
    assert signals["supervised"] == {"label_margin.train", "loss", "emb"}
    # No labels there, so no margin and no loss.
    assert signals["contrastive"] == {"emb"}


def test_all_metrics_need_whatever_any_of_them_reads():
    needed = of().signals
    read = {s for m in METRICS.values() if m.scope != "pixels" for s in m.signals}
    splits = {"correct_first_split", "correct_second_split"}
    of_embedding = {
        "msd", "msd_cosine", "feature_norm", "emb", "neighbor_distances", "neighbor_rows"
    }  # fmt: skip
    of_views = {
        "ssl_loss_ntxent", "barlow_influence", "barlow_alignment", "ssl_param_grad_norm",
        "ssl_param_grad_norm.l1", "ssl_perturbation_gain", "lgn", "lgn.stacked", "lgn.own",
    }  # fmt: skip
    supervised = needed["supervised"]
    assert supervised == (read & {*REGIMENS["supervised"].offered}) - GIVEN
    holdouts = {"own_loss", "holdout_loss", "holdout_probs"}
    assert not supervised & (splits | holdouts)
    assert holdouts < needed["cross_fit"] < supervised | holdouts
    assert needed["second_split"] == splits
    assert needed["contrastive"] == of_embedding | of_views
    assert needed["autoencoder"] == of_embedding | {"reconstruction_error"}


@pytest.mark.parametrize(
    ("metric", "passes"),
    [
        ("all", ("views", "perturbation")),
        ("ssl_loss_barlow.alignment", ("views",)),
        ("ssl_perturbation_gain", ("perturbation",)),
        ("msd_mean", ()),
    ],
)
def test_passes_are_made_where_an_asked_metric_reads_their_signals(metric, passes):
    assert of(metric).passes["contrastive"] == passes


@pytest.mark.parametrize(
    ("metric", "passes"),
    [
        ("grand", ("grand",)),
        ("grand_last_layer", ()),
        ("gradnorm", ()),
        ("odin.unperturbed", ("odin",)),
        ("mc_dropout_bald.mean", ("mc_dropout",)),
        ("vog.late", ("vog",)),
        ("vog_class_z.prob", ("vog",)),
        ("ensemble_mi", ()),
        ("all", ("grand", "odin", "mc_dropout", "vog")),
    ],
)
def test_passes_of_a_classifier_follow_from_the_metrics(metric, passes):
    needs = of(metric)
    assert needs.passes["supervised"] == passes
    assert {*REGIMENS["cross_fit"].passes} == {"odin", "mc_dropout"}
    expected = tuple(name for name in passes if name in ("odin", "mc_dropout"))
    assert needs.passes["cross_fit"] == expected


def test_a_snapshot_ruled_out_is_kept_only_for_a_metric_asked_for_by_name():
    every = of(keep=NO_EMBEDDING)
    assert every.ruled_out == {"emb"}
    assert "emb" not in every.signals["supervised"]
    assert "emb" not in every.recording.snapshots
    # Distances are no embedding: they are computed while training.
    assert "neighbor_distances" in every.signals["supervised"]
    named = of("prototypicality", keep=NO_EMBEDDING)
    assert named.signals["supervised"] == {"emb"}
    assert "emb" in named.recording.snapshots
    nothing = of(keep=Keep(embedding="none", logits="none"))
    assert nothing.ruled_out == {"emb", "logits", "holdout_probs"}
    assert of().ruled_out == set()


def test_what_decides_the_seeds_is_asked_for_by_name():
    needs = of("aum", until="prototypicality", keep=NO_EMBEDDING)
    assert needs.metrics == ("aum", "prototypicality")
    assert needs.signals["supervised"] == {"label_margin", "emb"}
    assert "prototypicality" in of(until="prototypicality", keep=NO_EMBEDDING).metrics
    assert of("aum", until="aum").metrics == ("aum",)


def test_seeds_are_adaptive_where_the_metric_s_signals_are_recorded():
    assert of("aum").adaptive == set()
    assert of("aum", until="el2n").adaptive == {"supervised", "cross_fit"}
    assert of("aum", until="msd_mean").adaptive == {"supervised", "contrastive", "autoencoder"}


def test_a_recording_has_the_passes_of_every_regimen_once_in_the_epochs_asked_for():
    recording = of("odin", "ssl_perturbation_gain", score_epochs=(0, -1)).recording
    assert recording.passes == ("odin", "perturbation")
    assert recording.score_epochs == (0, -1)


@pytest.mark.parametrize("key", ["image_entropy", "lid_mle_pixels"])
def test_metrics_of_the_images_need_nothing_of_a_run(key):
    assert of(key).signals["supervised"] == frozenset()


def test_a_run_without_its_learning_rate_is_not_trained_again_for_it():
    """The rate stands in the summaries, or not; no signal is missing."""
    assert of("aum_pre_decay").signals["supervised"] == {"label_margin"}
