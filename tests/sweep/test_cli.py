"""The main job through the command line, on a real Ray and a real MLflow."""

import io
import json
import re

import pandas as pd
import pytest

from tests.sweep.sweeps import FEW, cells, command, experiment, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


@pytest.fixture
def tracked(workdir):
    """Training runs in the store: their ids and when they last started."""

    def look(name):
        store, _ = cells(name)
        runs = store.client.search_runs([store.experiment_id], "tags.role = 'run'", max_results=100)
        return {r.data.tags["run_id"]: r.info.end_time for r in runs}

    return look


def test_a_sweep_trains_aggregates_and_says_where_to_look(workdir, tracked):
    path = experiment(workdir)
    code, out, err = command("run", path)
    assert code == 0, err
    assert "Stability across 2 seeds · supervised" in out
    assert "Agreement with the supervised reference ranking" in out
    assert "sweep ui small" in out
    folder = workdir / "sweeps" / "small"
    stability = pd.read_csv(folder / "stability.csv")
    # Two supervised configurations and a contrastive one.
    assert stability["configuration_id"].nunique() == 3
    assert (stability["runs"] == 2).all()
    assert {"aum", "aum.train", "msd_mean", "lid_mle", "energy"} <= {*stability["metric"]}
    agreement = pd.read_csv(folder / "agreement.csv")
    assert {"image_entropy", "msd_mean.contrastive"} <= {*agreement["left"], *agreement["right"]}
    samples = pd.read_parquet(folder / "samples.parquet")
    assert len(samples) == 3 * 96
    assert samples["sample_id"].max() > 96
    assert (folder / "figures" / "stability.png").stat().st_size > 10_000

    first = tracked("small")
    assert len(first) == 6
    code, out, err = command("run", path, "--no-figures")
    assert code == 0, err
    # The tables are new, so figures of old ones would mislead.
    assert ("figures" in out, list((folder / "figures").iterdir())) == (False, [])
    assert "6 of 6 cells are done already" in err
    assert tracked("small") == first

    code, out, _ = command("status", "small", "--format", "json")
    assert code == 0
    assert [row["state"] for row in json.loads(out)] == ["done"] * 6

    code, out, _ = command("compare", "small", "aum", "knn_distance.contrastive", "--format", "csv")
    assert code == 0
    assert out.splitlines()[1].startswith("aum.supervised,knn_distance.contrastive,96,")
    row = pd.read_csv(io.StringIO(out)).iloc[0]
    assert 0 <= row["rbo_low"] <= row["rbo_high"] <= 1
    assert 0 <= row["rbo"] <= row["rbo_extrapolated"] <= 1
    assert -1 < row["partial_spearman"] < 1
    _, out, _ = command("compare", "small", "aum", "knn_distance.contrastive")
    assert "ties at random" in out
    assert "…" not in out

    votes = samples[samples["regimen"] == "contrastive"][["sample_id", "label"]]
    votes.to_csv(workdir / "votes.csv", index=False)
    given = ("--scores", "votes.csv", "--low-is-hard", "label", "--format", "csv")
    code, out, _ = command("compare", "small", "aum.supervised", "label.votes", *given)
    assert code == 0
    assert out.splitlines()[1].startswith("aum.supervised,label.votes,96,0,2.0,0.0,")

    # The stored runs as mere folders give the numbers that the tracker gives.
    code, _, err = command(
        "aggregate", "./mlartifacts", "--output", "again", "--no-intervals", "--no-figures"
    )
    assert code == 0, err
    rows = ["configuration_id", "metric"]
    again = pd.read_csv(workdir / "again" / "stability.csv").drop(columns="parameters")
    pd.testing.assert_frame_equal(
        again.sort_values(rows, ignore_index=True),
        stability.drop(columns="parameters").sort_values(rows, ignore_index=True),
    )

    err = command("compare", "small", "aum", "nonsense")[2]
    assert err.startswith("sweep: unknown metric 'nonsense'; known: ")


def test_more_seeds_train_only_the_new_ones(workdir, tracked):
    path = experiment(workdir, lrs="[0.1]", epochs=2, metrics=FEW)
    train(path, "seeds=2")
    before = tracked("small")
    assert command("run", path, "--seeds", "0:3", "--no-aggregate")[0] == 0
    after = tracked("small")
    assert len(before) == 4
    assert len(after) == 6
    assert before.items() <= after.items()


def test_what_a_process_left_that_was_lost_at_the_end_of_its_run_is_dropped(workdir, tracked):
    path = experiment(workdir, lrs="[0.1]", epochs=2, metrics=FEW)
    train(path, "seeds=1")
    lost, others = tracked("small")
    # In the same storage another sweep trains a run of the same identity.
    for run, name in ((lost, "small"), (others, "another")):
        (workdir / "sweeps" / "spool" / run / "dynamics").mkdir(parents=True)
        (workdir / "sweeps" / "checkpoints" / run).mkdir(parents=True)
        (workdir / "sweeps" / "claims" / run).write_text(f"{name} token")
    assert command("run", path, "seeds=1", "--no-aggregate")[0] == 0
    for folder in ("spool", "checkpoints", "claims"):
        assert [p.name for p in (workdir / "sweeps" / folder).iterdir()] == [others]


def test_another_metric_trains_nothing(workdir, tracked):
    path = experiment(workdir, lrs="[0.1]", epochs=2, metrics=FEW)
    train(path, "metrics=[aum]", "seeds=3")
    before = tracked("small")
    plugin = workdir / "mine.py"
    plugin.write_text(
        "from hardness.metrics import metric\n\n"
        "@metric(family='supervised', sign=1, sign_origin='hypothesis', labels_used='own',\n"
        "        summary='largest loss of any epoch', paper='none')\n"
        "def worst_loss(loss):\n"
        "    return loss.astype('float64').max(axis=0)\n"
    )
    more = ["metrics=[aum, worst_loss]", "plugins=[mine.py]"]
    code, out, err = command("run", path, "seeds=3", "--no-figures", *more)
    assert code == 0, err
    assert tracked("small") == before
    assert "worst_loss" in out
    stability = pd.read_csv(workdir / "sweeps" / "small" / "stability.csv")
    assert {*stability["metric"]} == {"aum", "worst_loss"}
    assert "worst_loss" in command("metrics", "--plugin", plugin, "--format", "csv")[1]


def test_a_diverging_cell_is_named_and_everything_else_finishes(workdir, tracked):
    path = experiment(workdir, lrs="[0.1, 1e6]", epochs=2, metrics=FEW)
    code, out, err = command("run", path, "--no-figures", "resources.seeds_per_pack=2")
    assert code == 1
    assert "2 of 6 cells failed" in err
    _, sweep = cells("small")
    states = {
        (c.run.configuration.options["train"]["lr"], c.run.configuration.regimen): c.state
        for c in sweep.cells
    }
    assert states[1e6, "supervised"] == "failed"
    assert states[0.1, "supervised"] == "done"
    assert sorted(c.state for c in sweep.cells) == ["done"] * 4 + ["failed"] * 2
    assert re.search(r"failed: .* seed 0: .* became -?(nan|inf) in epoch \d", out), out
    code, out, _ = command("status", "small")
    assert code == 1
    assert re.search(r"seed 1: .* became -?(nan|inf) in epoch \d", out), out
    before = tracked("small")
    assert command("run", path, "--no-aggregate")[0] == 1
    assert tracked("small") == before
    assert command("run", path, "--no-aggregate", "--retry-failed")[0] == 1
    assert tracked("small") != before


def test_one_failed_seed_is_named_in_every_table(workdir):
    # Some seeds of this learning rate leave the finite numbers and some do not.
    train(experiment(workdir, lrs="[0.1]", epochs=2, seeds="3", metrics=FEW))
    store, sweep = cells("small")
    victim = sweep.cells[1]
    store.fail(victim.trace.tracking_run, "the training loss became nan in epoch 1", final=True)
    code, _, err = command("aggregate", "small", "--no-intervals", "--no-figures")
    assert code == 1, err
    folder = workdir / "sweeps" / "small"
    stability = pd.read_csv(folder / "stability.csv").query("regimen == 'supervised'")
    assert (stability["runs"] == 2).all()
    assert stability["missing_seeds"].str.contains("seed 1: the training loss became nan").all()
    agreement = pd.read_csv(folder / "agreement.csv")
    mine = agreement[agreement["left"] == "aum.supervised"]
    assert mine["missing_seeds_left"].str.contains("seed 1").all()


def test_a_dry_run_says_what_would_run_and_creates_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = experiment(tmp_path)
    code, out, err = command("run", path, "--dry-run", "resources.seeds_per_pack=2")
    assert code == 0, err
    assert "6 cells, 6 to train, in 3 packs" in out
    assert "of training on one core" in out
    assert [p.name for p in tmp_path.iterdir()] == ["small.yaml"]


def test_bayes_goes_on_after_a_restart(workdir, tracked):
    path = experiment(workdir, lrs="[0.1]", epochs=1, seeds="2", subset=60, metrics=FEW)
    search = [
        "method=bayes",
        "resources.seeds_per_pack=2",
        "regimens.supervised.parameters.train.lr={min: 0.001, max: 1.0, distribution: log_uniform}",
    ]
    contrastive = "  contrastive:\n    train: {max_epochs: 1, batch_size: 64}\n"
    path.write_text(path.read_text().replace(contrastive, ""))
    assert command("run", path, *search, "max_configurations=4", "--no-aggregate")[0] == 0
    first = tracked("small")
    assert len(first) == 8
    assert command("run", path, *search, "max_configurations=12", "--no-aggregate")[0] == 0
    assert first.items() <= tracked("small").items()
    assert len(tracked("small")) == 24
    store, _ = cells("small")
    known = store.configurations()
    assert [k.number for k in known] == list(range(12))
    assert len({k.parameters["train.lr"] for k in known}) == 12
