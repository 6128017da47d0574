"""Cross-fit runs in a sweep: scores out of fold, ranked within the fold, passes where asked for."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import spearmanr

from hardness.metrics.registry import METRICS
from sweep.aggregation import collected_scores
from sweep.execution import driver
from sweep.execution.places import Places
from sweep.execution.trial import run_pack
from sweep.experiment import check, sections, yaml_file
from sweep.experiment.runs import Pack
from sweep.planning import due_cells, search
from sweep.report import metric_list
from sweep.scoring import cache
from sweep.scoring.worker import reduce_runs
from sweep.store.mlflow_store import Store
from tests.sweep.sweeps import experiment

EPOCHS, FOLDS, SEEDS = 2, 3, (0, 1)
KEYS = ["rho_loss", "irreducible_loss", "label_quality_self_confidence", "max_softmax", "mean_loss"]


def read(workdir, **keys):
    path = experiment(workdir, subset=150)
    text = path.read_text().partition("regimens:")[0]
    more = "".join(f"{key}: {value}\n" for key, value in keys.items())
    path.write_text(
        f"{text}regimens: {{cross_fit: {{folds: {FOLDS}, train: {{max_epochs: {EPOCHS}, "
        f"batch_size: 32}}}}}}\nseeds: {len(SEEDS)}\n{more}"
    )
    return check.check(yaml_file.read(path), str(path))


def test_runs_leave_scores_of_every_sample_ranked_within_the_fold(workdir):
    spec, dataset = driver.load(read(workdir))
    (proposal,) = search.proposals(spec, [], {})
    store = Store.create(f"sqlite:///{workdir / 'mlflow.db'}", "small")
    places = Places(
        store=store,
        name="small",
        storage_path=str(workdir / "storage"),
        recording=spec.needs.recording,
        checkpoint_seconds=0,
    )
    parent = store.save_configuration(proposal.configuration, {}, 0)
    pack = Pack(configuration=proposal.configuration, seeds=SEEDS, parent_run=parent)
    reports = [*run_pack(pack, dataset, places)]
    assert reports[-1].state == "done"
    traces = store.traces()
    cells = due_cells.cells(spec, [proposal.configuration], traces)
    assert [cell.state for cell in cells] == ["done", "done"]
    (workdir / "scores").mkdir()
    for cell in cells:
        found = reduce_runs(
            cache.task([cell], KEYS, workdir, store),
            address=store.address,
        )
        assert found["error"] == ""
        cache.merge(workdir / "scores" / found["file"], found["scores"])
    scores = collected_scores._configuration_scores(proposal, cells, KEYS, workdir, {})
    assert {*scores.folds.ravel()} == {*range(FOLDS)}
    np.testing.assert_array_equal(*scores.folds)
    for key in KEYS:
        assert scores.raw[key].shape == (len(SEEDS), len(dataset.train))
        assert np.isfinite(scores.raw[key]).all()
        for run, fold, hardness in zip(
            scores.raw[key], scores.folds, scores.hardness(key), strict=True
        ):
            for one in range(FOLDS):
                mine = METRICS[key].sign * run[fold == one], hardness[fold == one]
                assert {0.0, 1.0} <= {*mine[1]}
                assert spearmanr(*mine).statistic > 0.999


def test_the_estimate_counts_epochs_and_scoring_passes(workdir, monkeypatch):
    """A clock that ticks once a reading: an epoch takes one second."""
    spec, dataset = driver.load(read(workdir))
    (proposal,) = search.proposals(spec, [], {})
    cells = due_cells.cells(spec, [proposal.configuration], {})
    clock = SimpleNamespace(perf_counter=itertools.count().__next__)
    monkeypatch.setattr(driver, "time", clock)
    # ODIN and MC dropout once, in forward passes of which an epoch takes four.
    a_run = EPOCHS + (5 + 20) / 4
    assert driver.estimate(spec, dataset, cells) == len(SEEDS) * a_run
    bare, dataset = driver.load(read(workdir, metrics="[mean_loss]"))
    assert driver.estimate(bare, dataset, cells) == len(SEEDS) * EPOCHS


def test_what_is_kept_follows_the_metrics_and_keep(workdir):
    everything = read(workdir).needs.signals["cross_fit"]
    assert {"own_loss", "holdout_loss", "holdout_probs", "loss", "max_softmax"} <= everything
    assert read(workdir).needs.recording.snapshots == ("emb", "logits", "holdout_probs")
    sparing = read(workdir, keep="{logits: none}")
    assert sparing.needs.signals["cross_fit"] == everything - {"holdout_probs"}
    assert sparing.needs.recording.snapshots == ("emb",)
    named = read(workdir, keep="{logits: none}", metrics="[label_quality_self_confidence]")
    assert named.needs.signals["cross_fit"] == {"holdout_probs"}
    assert named.needs.recording.snapshots == ("emb", "holdout_probs")


def test_metrics_that_need_a_holdout_need_this_regimen(workdir):
    rows = metric_list.metrics().set_index("metric")
    for key in ("rho_loss", "rho_loss.e5", "irreducible_loss", "label_quality_self_confidence"):
        assert rows.loc[key, "regimens"] == "cross_fit"
    assert rows.loc["max_softmax", "regimens"] == "supervised, cross_fit"
    assert rows.loc["knn_distance", "regimens"] == "supervised, contrastive, autoencoder"
    path = experiment(workdir)
    with pytest.raises(
        sections.ExperimentError, match="'rho_loss' needs own_loss, holdout_loss; expected"
    ):
        check.check(yaml_file.read(path, ["metrics=[rho_loss]"]), str(path))


def test_bad_folds_are_refused_with_their_place(workdir):
    path = experiment(workdir)
    overrides = ["regimens={cross_fit: {folds: 1}}"]
    with pytest.raises(
        sections.ExperimentError,
        match=r"regimens\.cross_fit\.folds: expected at least 2; got 1",
    ):
        check.check(yaml_file.read(path, overrides), str(path))
