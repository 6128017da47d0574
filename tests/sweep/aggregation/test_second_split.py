"""Second-split runs in a sweep: all their epochs, and hardness that compares across the halves."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import spearmanr

from hardness.training import REGIMENS
from sweep.aggregation import collected_scores, stability_table
from sweep.execution import driver
from sweep.execution.places import Places
from sweep.execution.trial import run_pack
from sweep.experiment import check, yaml_file
from sweep.experiment.needs import Needs
from sweep.experiment.runs import Pack
from sweep.planning import due_cells, search
from sweep.report import metric_list
from sweep.scoring import cache
from sweep.scoring.worker import reduce_runs
from sweep.store.mlflow_store import Store
from tests.sweep.sweeps import experiment

FIRST, SECOND, SEEDS = 2, 3, (0, 1)


@pytest.fixture
def spec(workdir):
    path = experiment(workdir, subset=150)
    text = path.read_text().partition("regimens:")[0]
    path.write_text(
        f"{text}regimens: {{second_split: {{train: {{max_epochs: {FIRST}, batch_size: 32}}, "
        f"second_epochs: {SECOND}}}}}\nseeds: {len(SEEDS)}\n"
    )
    return check.check(yaml_file.read(path), str(path))


def test_runs_leave_scores_of_every_sample_ranked_within_the_half(spec, workdir):
    spec, dataset = driver.load(spec)
    (proposal,) = search.proposals(spec, [], {})
    store = Store.create(f"sqlite:///{workdir / 'mlflow.db'}", "small")
    places = Places(
        store=store,
        name="small",
        storage_path=str(workdir / "storage"),
        checkpoint_seconds=0,
    )
    parent = store.save_configuration(proposal.configuration, {}, 0)
    pack = Pack(configuration=proposal.configuration, seeds=SEEDS, parent_run=parent)
    reports = [*run_pack(pack, dataset, places)]
    assert {report.epochs for report in reports} == {FIRST + SECOND}
    assert reports[-1].state == "done"
    keys = ["ssft", "ssft.learned"]
    cells = due_cells.cells(spec, [proposal.configuration], store.traces())
    assert [cell.state for cell in cells] == ["done", "done"]
    (workdir / "scores").mkdir()
    for cell in cells:
        found = reduce_runs(
            cache.task([cell], keys, workdir, store),
            address=store.address,
        )
        assert found["error"] == ""
        cache.merge(workdir / "scores" / found["file"], found["scores"])
    scores = collected_scores._configuration_scores(proposal, cells, keys, workdir, {})
    assert scores.raw["ssft"].shape == scores.folds.shape == (2, len(dataset.train))
    assert np.isfinite(scores.raw["ssft"]).all()
    np.testing.assert_array_equal(*scores.folds)
    assert {*scores.flags} == {"learned_at_switch"}
    later = np.where(scores.folds == 1, scores.raw["ssft"] + SECOND, scores.raw["ssft"])
    shifted = dataclasses.replace(scores, raw={"ssft": later})
    np.testing.assert_array_equal(shifted.hardness("ssft"), scores.hardness("ssft"))
    for run, fold, hardness in zip(
        scores.raw["ssft"], scores.folds, scores.hardness("ssft"), strict=True
    ):
        for half in (0, 1):
            assert {0.0, 1.0} <= {*hardness[fold == half]}
            assert spearmanr(hardness[fold == half], run[fold == half]).statistic < -0.999
    table = stability_table.samples_table([scores], {})
    np.testing.assert_array_equal(table["ssft"], scores.raw["ssft"].mean(axis=0))
    hardest = scores.hardness("ssft").mean(axis=0)
    assert spearmanr(table["ssft.rank"], -hardest).statistic > 0.999


def test_scores_of_one_model_are_not_ranked(spec):
    one = collected_scores.ConfigurationScores(
        configuration=None,
        parameters={},
        seeds=(0,),
        runs=("a",),
        sample_ids=np.arange(3),
        labels=np.zeros(3, dtype=np.int64),
        raw={"aum": np.array([[1.0, -2.0, 3.0]])},
        flags={},
        missing={},
        objective=0.0,
    )
    assert one.hardness("aum").tolist() == [[-1.0, 2.0, -3.0]]


def test_the_metric_needs_the_regimen_that_records_it(spec):
    signals = {"correct_first_split", "correct_second_split"}
    needed = Needs.of(REGIMENS, spec.metrics, spec.keep, None).signals
    assert needed["second_split"] == spec.needs.signals["second_split"] == signals
    assert not needed["supervised"] & signals
    assert "fold" in REGIMENS["second_split"].snapshots
    rows = metric_list.metrics().set_index("metric")
    assert rows.loc["ssft", "regimens"] == "second_split"
    assert rows.loc["ssft.learned", "signals"] == "correct_second_split, correct_first_split"
