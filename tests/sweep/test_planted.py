"""Planted hardness through the whole job: identity, exact counts, truth beside the samples."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from hardness.dynamics.folder import Dynamics
from hardness.metrics.registry import METRICS
from hardness.scoring.runs import scorable, score_run
from sweep.execution import driver
from sweep.execution.places import Places
from sweep.execution.trial import run_pack
from sweep.experiment.check import check
from sweep.experiment.runs import Pack, RunSpec
from sweep.experiment.sections import ExperimentError
from sweep.planning import search
from sweep.store.mlflow_store import Store
from tests.conftest import SHARED_DATA
from tests.sweep.sweeps import cells, command, stored

NOISE = "{noise_symmetric: {rate: 0.1}}"
EXPERIMENT = """
name: {name}
dataset: {{name: digits, subset: 400}}
plant: {plant}
validation: {{split: 0.2}}
model: {{name: mlp, width: 32}}
regimens: {{supervised: {{train: {{max_epochs: 6, batch_size: 32, lr: 0.1}}}}}}
metrics: [mean_loss, aum, knn_distance]
seeds: 2
"""


def content(plant=None, **dataset):
    return {
        "name": "planted",
        "dataset": {"name": "digits", "subset": 100, **dataset},
        "validation": {"split": 0.2},
        "model": {"name": "mlp", "width": 8},
        "regimens": {"supervised": {"train": {"max_epochs": 2, "batch_size": 32}}},
        "plant": plant,
    }


def configuration(plant=None, **dataset):
    """The one configuration of a small sweep, and the dataset that it trains on."""
    spec, loaded = driver.load(check(content(plant, **dataset), "planted.yaml"))
    (proposal,) = search.proposals(spec, [], {})
    return proposal.configuration, loaded


class TestIdentity:
    def test_without_a_plan_it_is_what_it_was_before_there_were_plans(self):
        none, _ = configuration()
        assert none.plant is None
        # `sha256sum` of the canonical text, as of the version that could not plant.
        assert none.configuration_id == configuration({})[0].configuration_id == "64011289c0b90ef2"

    def test_the_same_plan_gives_the_same_id_however_it_is_written(self):
        one, _ = configuration({"noise_symmetric": {"rate": 0.2}, "noise_pair": {"rate": 0.1}})
        two, _ = configuration(
            {"overlap": False, "noise_pair": {"rate": 1e-1}, "noise_symmetric": {"rate": 0.20}}
        )
        assert one.configuration_id == two.configuration_id

    @pytest.mark.parametrize(
        "other",
        [
            None,
            {"noise_symmetric": {"rate": 0.2}},
            {"noise_symmetric": {"rate": 0.1, "seed": 1}},
            {"noise_pair": {"rate": 0.1}},
            {"noise_symmetric": {"rate": 0.1}, "noise_pair": {"rate": 0.1}},
        ],
        ids=str,
    )
    def test_another_plan_is_another_configuration(self, other):
        mine, dataset = configuration({"noise_symmetric": {"rate": 0.1}})
        theirs, another = configuration(other)
        assert mine.configuration_id != theirs.configuration_id
        assert dataset.digest != another.digest

    def test_the_data_seed_draws_who_is_hit(self):
        found = [configuration({"noise_pair": {"rate": 0.1}}, data_seed=s)[1] for s in (0, 1)]
        hit = [{*d.train.sample_ids[d.columns["truth_noise_pair"].tolist()]} for d in found]
        assert hit[0] != hit[1]

    def test_the_place_of_the_second_dataset_does_not_matter_and_its_content_does(self, tmp_path):
        mnist = SHARED_DATA / "mnist"
        if not mnist.exists():
            pytest.skip(f"needs the real mnist at {mnist}")
        (tmp_path / "moved").symlink_to(mnist)
        ids = [
            configuration({"ood_far": {"rate": 0.1, "dataset": {"name": "mnist", **more}}})[0]
            for more in (
                {"root": str(mnist), "subset": 50},
                {"root": str(tmp_path / "moved"), "subset": 50},
                {"root": str(mnist), "subset": 60},
            )
        ]
        assert ids[0].configuration_id == ids[1].configuration_id != ids[2].configuration_id

    def test_a_plan_that_the_data_cannot_take_is_told_in_one_line(self):
        said = "^plant: noise_human: expected a column of the dataset; got 'worse_label'; known: "
        with pytest.raises(ExperimentError, match=said):
            configuration({"noise_human": {"column": "worse_label"}})
        far = {"rate": 0.1, "dataset": {"name": "mnist", "root": "/nowhere"}}
        with pytest.raises(ExperimentError, match=r"^plant: mnist: expected its files in /nowhere"):
            configuration({"ood_far": far})


def test_neither_signals_nor_scores_see_the_truth(workdir):
    """Two runs of one pack, one with its truth turned upside down: the same bits and scores."""
    chosen, honest = configuration({"noise_symmetric": {"rate": 0.2}})
    columns = honest.columns.assign(
        true_label=0, planted="", truth_noise_symmetric=~honest.columns["truth_noise_symmetric"]
    )
    signals, scores, truths = [], [], []
    for name, dataset in (
        ("honest", honest),
        ("lying", dataclasses.replace(honest, columns=columns)),
    ):
        store = Store.create(f"sqlite:///{workdir / 'mlflow.db'}", name)
        parent = store.save_configuration(chosen, {}, 0)
        places = Places(
            store=store,
            name=name,
            storage_path=str(workdir / "storage" / name),
        )
        list(run_pack(Pack(configuration=chosen, seeds=(0,), parent_run=parent), dataset, places))
        run = store.traces()[RunSpec(configuration=chosen, seed=0).run_id]
        assert run.state == "done"
        signals.append(stored(store, run.tracking_run))
        dynamics = Dynamics(store.local_folder(run.tracking_run))
        truths.append(dynamics.samples)
        keys = scorable(METRICS, dynamics.manifest.signals)
        scores.append(score_run(dynamics, keys, n_classes=10))
    assert signals[0] == signals[1]
    pd.testing.assert_frame_equal(scores[0], scores[1])
    assert len(scores[0].columns) > 20
    # What the runs keep differs in nothing but the truth.
    for column in ("true_label", "planted", "truth_noise_symmetric"):
        assert (truths[0][column] != truths[1][column]).any()
    assert (truths[0][["sample_id", "label"]] == truths[1][["sample_id", "label"]]).all(axis=None)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_sweep_with_planted_noise(workdir):
    path = workdir / "noisy.yaml"
    path.write_text(EXPERIMENT.format(name="noisy", plant=NOISE))
    code, out, err = command("run", path, "--dry-run")
    assert code == 0, err
    assert "  planted: noise_symmetric in 32 of 320 samples (10.00%)\n" in out
    code, _, err = command("run", path, "--no-figures")
    assert code == 0, err
    store, sweep = cells("noisy")
    assert [c.state for c in sweep.cells] == ["done", "done"]
    tables = []
    for cell in sweep.cells:
        tags = store.client.get_run(cell.trace.tracking_run).data.tags
        assert tags["plant"] == '{"noise_symmetric":{"rate":0.1},"overlap":false}'
        tables.append(Dynamics(store.local_folder(cell.trace.tracking_run)).samples)
    pd.testing.assert_frame_equal(tables[0], tables[1])
    samples = tables[0]
    assert [*samples] == ["sample_id", "label", "true_label", "planted", "truth_noise_symmetric"]
    wrong = samples["truth_noise_symmetric"].to_numpy()
    assert wrong.sum() == 32
    assert ((samples["label"] != samples["true_label"]) == wrong).all()
    assert ((samples["planted"] == "noise_symmetric") == wrong).all()
    # Planted labels are trained on and end up as the hardest samples.
    scores = pd.read_parquet(workdir / "sweeps" / "noisy" / "samples.parquet")
    loss = scores.set_index("sample_id")["mean_loss"].reindex(samples["sample_id"]).to_numpy()
    assert (loss[wrong][:, None] > loss[~wrong]).mean() > 0.9
    # Asked again, nothing is trained; a larger rate is another configuration.
    code, out, _ = command("run", path, "--dry-run")
    assert "2 cells, 0 to train" in out
    code, out, _ = command("run", path, "plant.noise_symmetric.rate=0.2", "--dry-run")
    assert "2 cells, 2 to train" in out
    code, _, err = command("run", path, "plant.noise_symmetric.rate=2", "--dry-run")
    assert code == 2
    assert re.search(r"noisy.yaml: plant.noise_symmetric.rate: expected a share .*got 2.0$", err)
    assert np.isfinite(loss).all()
