"""Metrics of several runs of a configuration, from the runs that a sweep trained."""

from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from hardness.comparison.disjoint_runs import ScoreSet
from hardness.comparison.mean_scores import mean_over_runs
from hardness.dynamics.folder import Dynamics
from hardness.metrics.disagreement import MEMBERS, ensemble_entropy, ensemble_mi, ensembles
from sweep.aggregation import agreement_table
from tests.sweep.sweeps import cells, command, experiment, train

KEYS = "[ensemble_entropy, ensemble_mi, predictive_entropy]"


@given(st.integers(0, 100))
def test_ensembles_share_no_run_and_are_of_one_size(runs):
    found = ensembles(runs)
    used = [place for one in found for place in one]
    assert used == [*range(len(used))]
    assert len({len(one) for one in found}) == (runs >= MEMBERS)
    assert len(found) == runs // MEMBERS
    assert runs - len(used) < max(len(found), MEMBERS)


def test_six_seeds_make_two_ensembles_of_three(ray_session, workdir):
    path = experiment(workdir, subset=150, epochs=2, lrs="[0.05]", seeds="6")
    train(path, f"metrics={KEYS}")
    code, out, err = command("aggregate", "small", "--no-figures")
    assert code == 0, err
    store, sweep = cells("small")
    supervised = [c for c in sweep.cells if c.run.configuration.regimen == "supervised"]
    logits = np.stack(
        [
            Dynamics(store.local_folder(cell.trace.tracking_run)).snapshots()["logits"]
            for cell in supervised
        ]
    )
    folder = workdir / "sweeps" / "small"
    samples = pd.read_parquet(folder / "samples.parquet").query("regimen == 'supervised'")
    for metric in (ensemble_entropy, ensemble_mi):
        halves = np.stack([metric(logits[:3]), metric(logits[3:])])
        np.testing.assert_allclose(samples[metric.__name__], halves.mean(axis=0), rtol=1e-12)
    stability = pd.read_csv(folder / "stability.csv").set_index("metric")
    for key, units in (("ensemble_mi", 2), ("ensemble_entropy", 2), ("predictive_entropy", 6)):
        assert stability.loc[key, "runs"] == units
        assert np.isfinite(stability["spearman_pair_mean"][key])
    assert "a unit is an ensemble of 3 runs" in stability.loc["ensemble_mi", "reason"]
    agreement = pd.read_csv(folder / "agreement.csv").set_index(["left", "right"])
    row: Any = agreement.loc["ensemble_entropy.supervised", "predictive_entropy.supervised"]
    assert np.isfinite(row["spearman"])
    assert row["runs_left"] == row["runs_right"] == 1
    # Either ensemble against the mean of the other one's runs.
    single = np.stack(
        [
            pd.read_parquet(folder / "scores" / f"{cell.run.run_id}.parquet")["predictive_entropy"]
            for cell in supervised
        ]
    )
    crossed = [
        spearmanr(ensemble_entropy(logits[mine]), single[others].mean(axis=0)).statistic
        for mine, others in ((slice(3), slice(3, 6)), (slice(3, 6), slice(3)))
    ]
    np.testing.assert_allclose(row["spearman"], np.mean(crossed), rtol=1e-9)
    assert "ensemble_mi" in out


def test_runs_meet_ensembles_in_the_ensembles_own_groups():
    rng = np.random.default_rng(0)
    runs = ScoreSet(name="runs", scores=rng.random((7, 20)), runs=tuple("abcdefg"))
    groups = ScoreSet(name="groups", scores=rng.random((2, 20)), runs=("a+b+c", "d+e+f"))
    elsewhere = ScoreSet(name="elsewhere", scores=rng.random((2, 20)), runs=("x", "y"))
    pixels = ScoreSet(name="pixels", scores=rng.random((1, 20)))
    sets = [runs, groups, elsewhere, pixels]
    pairs = [(0, 1), (1, 0), (0, 2), (1, 2), (0, 3), (1, 3), (1, 1)]
    found, places = agreement_table._on_common_units(sets, pairs)
    assert places == [(4, 1), (1, 4), (0, 2), (1, 2), (0, 3), (1, 3), (1, 1)]
    assert found[:4] == sets
    assert (found[4].name, found[4].runs) == ("runs", groups.runs)
    expected = np.stack([mean_over_runs(runs.scores[:3]), mean_over_runs(runs.scores[3:6])])
    np.testing.assert_array_equal(found[4].scores, expected)


def test_a_damaged_member_is_named_and_the_others_team_up_without_it(ray_session, workdir):
    """Its own scores are cached, so that only the ensemble reads its files again."""
    path = experiment(workdir, subset=100, epochs=1, lrs="[0.05]", seeds="4")
    train(path, f"metrics={KEYS}")
    assert command("aggregate", "small", "--no-figures")[0] == 0
    store, sweep = cells("small")
    supervised = [c for c in sweep.cells if c.run.configuration.regimen == "supervised"]
    kept = [Dynamics(store.local_folder(c.trace.tracking_run)) for c in supervised]
    logits = np.stack([one.snapshots()["logits"] for one in kept])
    (snapshot,) = (kept[0].folder / "snapshots").iterdir()
    snapshot.write_bytes(snapshot.read_bytes()[:-8] + b"8 others")
    folder = workdir / "sweeps" / "small"
    runs = {cell.run.run_id for cell in sweep.cells}
    (cached,) = (f for f in (folder / "scores").glob("[0-9a-f]*.parquet") if f.stem not in runs)
    cached.unlink()
    code, _, err = command("aggregate", "small", "--no-intervals", "--no-figures")
    assert code == 1
    assert "1 of 8 cells failed" in err
    samples = pd.read_parquet(folder / "samples.parquet").query("regimen == 'supervised'")
    np.testing.assert_allclose(samples["ensemble_mi"], ensemble_mi(logits[1:]), rtol=1e-12)
    stability = pd.read_csv(folder / "stability.csv").set_index("metric")
    assert stability["missing_seeds"]["ensemble_mi"].startswith("seed 0: damaged")
    assert stability.loc["predictive_entropy", "runs"] == 3
