"""From a really trained run to its scores, by blocks or whole."""

import dataclasses
import inspect
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardness.data.datasets import load
from hardness.data.options import DatasetOptions
from hardness.dynamics.folder import (
    Dynamics,
    Manifest,
    epoch_file,
    samples_table,
    write_epoch,
    write_manifest,
    write_samples,
)
from hardness.dynamics.record import EpochRecord, Recording
from hardness.files import Damaged, fingerprint
from hardness.metrics.registry import METRICS
from hardness.models.options import ModelOptions
from hardness.scoring import runs
from hardness.scoring.runs import rank_within_folds, scorable, score_run
from hardness.seeding import Streams
from hardness.training import REGIMENS
from hardness.training.options import (
    Autoencoder,
    Contrastive,
    CrossFit,
    SecondSplit,
    Supervised,
    TrainOptions,
)
from tests.strategies import histories

EPOCHS, CLASSES = 4, 10
# Metrics of epochs that so short a run does not have.
LATER = (
    *("el2n.e5", "el2n.e10", "el2n.e20", "vog.early", "vog.late", "rho_loss.e5"),
    *(key for key in METRICS if "_discrepancy" in key),
)
OPTIONS: dict = {
    "supervised": Supervised(train=TrainOptions(max_epochs=EPOCHS, batch_size=64)),
    "second_split": SecondSplit(
        train=TrainOptions(max_epochs=EPOCHS, batch_size=32), second_epochs=EPOCHS - 1
    ),
    "cross_fit": CrossFit(folds=3, train=TrainOptions(max_epochs=EPOCHS, batch_size=32)),
    "contrastive": Contrastive(
        projection=16, train=TrainOptions(max_epochs=EPOCHS, batch_size=64, optimizer="adamw")
    ),
    "autoencoder": Autoencoder(
        decoder_channels=4, train=TrainOptions(max_epochs=EPOCHS, batch_size=64, optimizer="adamw")
    ),
}


def trained(folder, regimen, *, without=()):
    """A run of digits from first image to manifest; ``without`` some numbers of its summaries."""
    digits = load(DatasetOptions(name="digits", subset=250), 0.2)
    table = samples_table(
        sample_ids=digits.train.sample_ids.tolist(), labels=digits.train.labels.tolist()
    )
    names = [write_samples(folder, table)]
    chosen, model = REGIMENS[regimen], ModelOptions(name="small_cnn", width=8)
    recording = Recording(passes=tuple(chosen.passes))
    records = chosen.train(digits, model, OPTIONS[regimen], Streams(seed=0), recording=recording)
    for record in records:
        summary = {k: v for k, v in record.summary.items() if k not in without}
        names += write_epoch(folder, dataclasses.replace(record, summary=summary))
    manifest = Manifest(
        epochs=OPTIONS[regimen].epochs,
        rows=len(table),
        signals=chosen.offered,
        files={name: fingerprint(folder / name) for name in names},
    )
    write_manifest(folder, manifest)
    return Dynamics(folder)


@pytest.fixture(scope="module")
def supervised(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("supervised"), "supervised")


@pytest.fixture(scope="module")
def second_split(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("second_split"), "second_split")


@pytest.fixture(scope="module")
def cross_fit(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("cross_fit"), "cross_fit")


@pytest.fixture(scope="module")
def contrastive(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("contrastive"), "contrastive")


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("autoencoder"), "autoencoder")


def test_a_supervised_run_scores_every_metric_of_a_run_for_every_sample(supervised):
    keys = scorable(METRICS, supervised.manifest.signals)
    given = {*REGIMENS["supervised"].offered, *runs.GIVEN}
    every = [key for key, metric in METRICS.items() if metric.scope == "run"]
    assert keys == [key for key in every if given.issuperset(METRICS[key].signals)]
    later = {key for key in LATER if not key.startswith(("lgn", "rho_loss"))}
    assert later | {"grand", "odin", "mc_dropout_bald", "vog_class_z"} <= {*keys}
    scores = score_run(supervised, keys, n_classes=CLASSES)
    assert scores["sample_id"].tolist() == supervised.samples["sample_id"].tolist()
    for key in keys:
        assert scores[key].dtype == np.float64, key
        if key in LATER:
            assert scores[key].isna().all(), key
        else:
            assert np.isfinite(scores[key]).all(), key
            assert scores[key].nunique() > 1, key


def test_a_contrastive_run_scores_what_needs_no_logits(contrastive):
    keys = scorable(METRICS, contrastive.manifest.signals)
    assert {"msd_mean", "feature_norm_mean", "knn_distance", "prototypicality"} <= {*keys}
    assert {"msd_cosine", "lof", "isolation_forest", "knn_label_disagreement"} <= {*keys}
    assert {"ssl_loss_ntxent", "ssl_loss_barlow.alignment", "ssl_perturbation_gain"} <= {*keys}
    assert not {"aum", "el2n", "forgetting_events", "aum.train"} & {*keys}
    scores = score_run(contrastive, keys, n_classes=CLASSES)
    assert len(scores) == 200
    assert np.isfinite(scores[[key for key in keys if key not in LATER]]).all(axis=None)


def test_an_autoencoder_s_run_scores_its_errors_and_its_embedding(autoencoder):
    keys = scorable(METRICS, autoencoder.manifest.signals)
    assert {"reconstruction_error", "reconstruction_error.mean", "msd_mean", "lid_mle"} <= {*keys}
    assert not any(key.startswith(("ssl_", "aum")) for key in keys)
    scores = score_run(autoencoder, keys, n_classes=CLASSES)
    assert np.isfinite(scores[[key for key in keys if key not in LATER]]).all(axis=None)
    errors = autoencoder.signals(["reconstruction_error"])["reconstruction_error"]
    np.testing.assert_array_equal(scores["reconstruction_error"], errors[-1])


def test_a_second_split_run_scores_every_sample_of_both_halves(second_split):
    keys = scorable(METRICS, second_split.manifest.signals)
    assert keys == ["ssft", "ssft.learned"]
    scores = score_run(second_split, keys, n_classes=CLASSES)
    assert [*scores] == ["sample_id", "fold", "ssft", "learned_at_switch", "ssft.learned"]
    names = ["correct_first_split", "correct_second_split"]
    first, second = (second_split.signals(names)[name] for name in names)
    assert (len(first), len(second)) == (EPOCHS, EPOCHS - 1)
    assert np.isfinite(scores["ssft"]).all()
    np.testing.assert_array_equal(scores["ssft"], METRICS["ssft"].function(second))
    np.testing.assert_array_equal(scores["learned_at_switch"], first[-1])
    np.testing.assert_array_equal(scores["ssft.learned"].isna(), ~first[-1])
    assert scores["fold"].value_counts().to_dict() == {0: 100, 1: 100}


def test_a_cross_fit_run_scores_every_sample_out_of_fold(cross_fit):
    keys = scorable(METRICS, cross_fit.manifest.signals)
    assert {"irreducible_loss", "rho_loss", "mean_loss", "max_softmax", "fslt"} <= {*keys}
    assert not {"ssft", "knn_distance", "feature_norm_mean", "aum.train"} & {*keys}
    scores = score_run(cross_fit, keys, n_classes=CLASSES)
    assert {*scores["fold"]} == {0, 1, 2}
    late = [key for key in keys if key in LATER]
    assert "rho_loss.e5" in late
    assert np.isnan(scores[late]).all(axis=None)
    assert np.isfinite(scores[[key for key in keys if key not in late]]).all(axis=None)
    loss = cross_fit.signals(["loss"])["loss"]
    assert (loss == scores["irreducible_loss"].to_numpy()).any(axis=0).all()
    confidence = cross_fit.signals(["p_label"])["p_label"][-1]
    quality = scores["label_quality_self_confidence"]
    np.testing.assert_allclose(quality, confidence, rtol=1e-6)


def test_ranks_within_folds_forget_the_level_of_a_fold(second_split):
    """One network may forget everything later than the other, which says nothing of a sample."""
    scores = score_run(second_split, ["ssft"], n_classes=CLASSES)
    raw, fold = -scores["ssft"].to_numpy(), scores["fold"].to_numpy()
    ranks = rank_within_folds(raw, fold)
    np.testing.assert_array_equal(rank_within_folds(np.where(fold == 1, raw + 9, raw), fold), ranks)
    for half in (0, 1):
        assert {0.0, 1.0} <= {*ranks[fold == half]}
        order = np.argsort(raw[fold == half])
        assert (np.diff(ranks[fold == half][order]) >= 0).all()


def test_ranks_within_folds_by_hand():
    scores = np.array([3.0, 1.0, 2.0, np.nan, 5.0, 5.0, np.inf, 4.0, 4.0, np.nan, 7.0])
    fold = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 3])
    expected = [1, 0, 0.5, np.nan, 2 / 3, 2 / 3, 1, 0, 0, np.nan, 0.5]
    np.testing.assert_allclose(rank_within_folds(scores, fold), expected)


def test_samples_that_no_network_forgets_stand_level_however_many_each_half_has():
    """Mean ranks of ties would put all of one half above all of the other."""
    fold = np.repeat([0, 1], 100)
    hardness = np.where(np.isin(np.arange(200) % 100, range(90)), -9.0, -1.0)
    hardness[100:110] = -2.0
    ranks = rank_within_folds(hardness, fold)
    assert (ranks[hardness == -9] == 0).all()
    assert (ranks[hardness == -1] == 1).all()
    assert (ranks[hardness == -2] > 0.8).all()


@given(case=histories(), seed=st.integers(0, 99))
def test_ranks_within_folds_keep_order_and_bounds(case, seed):
    scores = case[0][0].astype(np.float64)
    fold = np.random.default_rng(seed).integers(0, 3, len(scores))
    ranks = rank_within_folds(scores, fold)
    assert ((ranks >= 0) & (ranks <= 1)).all()
    for i, j in itertools.combinations(np.arange(len(scores)), 2):
        if fold[i] == fold[j]:
            assert np.sign(ranks[i] - ranks[j]) == np.sign(scores[i] - scores[j])


def test_scores_are_those_of_the_metrics_themselves(supervised):
    names = {"label_margin", "label_margin.train", "correct", "msd"}
    signals = supervised.signals(sorted(names)) | supervised.snapshots() | {"n_classes": CLASSES}
    keys = ["aum", "aum.train", "forgetting_events", "msd_mean", "knn_distance", "prototypicality"]
    scores = score_run(supervised, keys, n_classes=CLASSES)
    for key in keys:
        np.testing.assert_array_equal(scores[key], METRICS[key].score(signals), err_msg=key)
    by_hand = signals["label_margin"].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(scores["aum"], by_hand, rtol=1e-9)


def test_the_first_decay_is_read_from_the_epochs_summaries(supervised, tmp_path):
    """A cosine falls from the start, so that the first epoch alone is before it."""
    margins = supervised.signals(["label_margin"])["label_margin"]
    lr = supervised.summaries("lr")
    assert lr[0] == OPTIONS["supervised"].train.lr
    assert (np.diff(lr) < 0).all()
    scores = score_run(supervised, ["aum", "aum_pre_decay"], n_classes=CLASSES)
    np.testing.assert_array_equal(scores["aum_pre_decay"], margins[0].astype(np.float64))
    assert not np.array_equal(scores["aum"], scores["aum_pre_decay"])


def test_a_run_that_did_not_record_its_rate_keeps_its_other_scores(supervised, tmp_path):
    before = trained(tmp_path, "supervised", without={"lr"})
    keys = ["aum", "aum_pre_decay", "aum_pre_decay.train", "el2n.e1"]
    assert scorable(keys, before.manifest.signals) == keys
    scores = score_run(before, keys, n_classes=CLASSES)
    assert scores[["aum_pre_decay", "aum_pre_decay.train"]].isna().all(axis=None)
    for key in ("aum", "el2n.e1"):
        expected = score_run(supervised, [key], n_classes=CLASSES)[key]
        np.testing.assert_array_equal(scores[key], expected)


def test_el2n_after_so_many_epochs_is_that_epochs(supervised):
    norms = supervised.signals(["el2n"])["el2n"].astype(np.float64)
    scores = score_run(supervised, ["el2n", "el2n.e1", "el2n.e5"], n_classes=CLASSES)
    np.testing.assert_array_equal(scores["el2n.e1"], norms[0])
    np.testing.assert_array_equal(scores["el2n"], norms[EPOCHS - 1])
    assert scores["el2n.e5"].isna().all()


def test_what_is_said_to_read_the_last_epoch_alone_reads_no_other(supervised):
    last = [key for key in METRICS if METRICS[key].last_epoch]
    assert {"el2n", "max_softmax", "energy"} <= {*last}
    assert not {"el2n.e1", "max_softmax.mean", "mean_loss"} & {*last}
    names = sorted({name for key in last for name in METRICS[key].signals})
    signals = supervised.signals(names)
    for key in last:
        alone = METRICS[key].score({name: values[-1:] for name, values in signals.items()})
        np.testing.assert_array_equal(METRICS[key].score(signals), alone, err_msg=key)
    # Alone from one file, beside others of the same signals from all.
    scores = score_run(supervised, last, n_classes=CLASSES)
    beside = score_run(supervised, [*last, *scorable_variants(last)], n_classes=CLASSES)
    assert scores.equals(beside[[*scores.columns]])


def scorable_variants(keys):
    return [other for key in keys for other in METRICS if other.startswith(f"{key}.")]


def test_the_last_epoch_of_a_signal_is_the_last_that_recorded_it(tmp_path):
    write_samples(tmp_path, samples_table(sample_ids=range(2), labels=[0, 1]))
    columns = [{"early": [1.0, 2.0], "late": [5.0, 6.0]}, {"late": [7.0, 8.0]}]
    for epoch, signals in enumerate(columns):
        arrays = {name: np.array(values) for name, values in signals.items()}
        write_epoch(tmp_path, EpochRecord(epoch=epoch, signals=arrays, summary={}, snapshots={}))
    files = {name: fingerprint(tmp_path / name) for name in map(epoch_file, range(2))}
    manifest = Manifest(epochs=2, rows=2, signals=("early", "late"), files=files)
    write_manifest(tmp_path, manifest)
    found = Dynamics(tmp_path).signals(["late", "early"], last_epoch=True)
    assert {name: values.tolist() for name, values in found.items()} == {
        "late": [[7.0, 8.0]],
        "early": [[1.0, 2.0]],
    }
    with pytest.raises(Damaged, match="expected never in some epoch; got none"):
        Dynamics(tmp_path).signals(["late", "never"], last_epoch=True)


def test_columns_are_the_metrics_asked_for_and_their_flags(supervised):
    keys = ["aum", "fslt", "forgetting_events", "forgetting_events.train", "knn_distance"]
    scores = score_run(supervised, keys, n_classes=CLASSES)
    flags = {"censored", "never_learned", "has_duplicate"}
    assert {*scores.columns} == {"sample_id", *keys, *flags}
    assert all(scores[flag].dtype == np.bool_ for flag in flags)
    never = ~supervised.signals(["correct"])["correct"].any(axis=0)
    np.testing.assert_array_equal(scores["never_learned"], never)


@pytest.mark.parametrize("block", [1, 7, 100, 199, 200, 10_000])
def test_blocks_give_the_scores_of_the_whole(supervised, monkeypatch, block):
    keys = scorable(METRICS, supervised.manifest.signals)
    if block == 1:
        keys = ["aum", "el2n", "fslt", "cartography_variability", "knn_distance"]
    whole = score_run(supervised, keys, n_classes=CLASSES)
    monkeypatch.setattr(runs, "BLOCK", block)
    blockwise = score_run(supervised, keys, n_classes=CLASSES)
    assert [*blockwise.columns] == [*whole.columns]
    for key in whole.columns:
        assert blockwise[key].to_numpy().tobytes() == whole[key].to_numpy().tobytes(), key


def test_scorable_leaves_out_what_a_run_did_not_record():
    recorded = {"label_margin", "emb"}
    assert scorable(["aum", "aum.train", "el2n", "prototypicality"], recorded) == [
        "aum",
        "prototypicality",
    ]
    assert scorable(METRICS, ()) == []


def test_scorable_leaves_out_what_is_no_score_of_a_run():
    images = {"images", *(s for m in METRICS.values() for s in m.signals)}
    found = scorable(METRICS, images)
    assert "aum" in found
    assert "image_entropy" not in found
    assert all(METRICS[key].scope == "run" for key in found)


def test_no_metrics_are_no_scores(supervised):
    assert [*score_run(supervised, [], n_classes=CLASSES).columns] == ["sample_id"]


def test_a_signal_that_the_files_lack_is_damaged(contrastive):
    with pytest.raises(Damaged, match="expected label_margin"):
        score_run(contrastive, ["aum"], n_classes=CLASSES)


def test_the_help_of_a_function_begins_with_its_text():
    """A default that is the whole registry would be printed before it."""
    functions = [f for _, f in inspect.getmembers(runs, inspect.isfunction)]
    assert runs.score_folder in functions
    assert all(len(str(inspect.signature(f))) < 500 for f in functions)
