"""Adaptive seeds: which are due, whatever the order of events; what is said; a real sweep."""

import math
import random
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardness.comparison.enough_seeds import Look, look_at
from hardness.comparison.estimate import Estimate
from sweep.execution import adaptive_seeds, driver, status
from sweep.execution.places import Places, Progress
from sweep.execution.trial import run_pack
from sweep.experiment.check import check
from sweep.experiment.runs import Pack, Trace
from sweep.experiment.sections import ExperimentError
from sweep.experiment.yaml_file import read
from sweep.planning import search, statements
from sweep.planning.due_cells import Due, cells, due, to_train
from sweep.store.mlflow_store import Store
from tests.sweep.sweeps import cells as find
from tests.sweep.sweeps import command, stored

UNTIL = {"metric": "el2n", "reliability": 0.9}
PLAN = (6, 8, 12, 20)


def sweep(**keys):
    """A checked sweep of one supervised configuration with adaptive seeds."""
    content = {
        "name": "digits",
        "dataset": {"name": "digits"},
        "regimens": {"supervised": {}},
        "seeds": {"min": 6, "max": 20, "until": UNTIL},
        "metrics": ["aum"],
        **keys,
    }
    return replace(check(content, "digits.yaml"), dataset_digest="0" * 64)


def configuration(spec, regimen="supervised"):
    (only,) = (p for p in search.proposals(spec, [], {}) if p.configuration.regimen == regimen)
    return only.configuration


def runs_of(spec):
    return [cell.run.run_id for cell in cells(spec, [configuration(spec)], {})]


def done(spec):
    signals = spec.needs.signals["supervised"]
    return Trace(tracking_run="r", state="done", signals=signals)


FAILED = Trace(tracking_run="r", state="failed", reason="diverged", final=True)
LOST = replace(FAILED, final=False)
RUNNING = Trace(tracking_run="r", state="running")


class Scores:
    """A judge of made-up scores by seed, which notes what it was asked."""

    def __init__(self, spec, scores):
        self.spec, self.scores, self.asked = spec, scores, []

    def __call__(self, finished, number):
        seeds = [cell.run.seed for cell in finished]
        self.asked.append((number, seeds))
        found = self.spec.adaptive
        return look_at(self.scores[seeds], number, found.looks, found.until.reliability)


def ready_at(spec, count):
    """Scores by which the mean is reliable from so many seeds on, since the former ones are not."""
    rng = np.random.default_rng(0)
    scores = np.tile(np.arange(40.0), (20, 1))
    scores[: count - 1] = rng.permuted(scores[: count - 1], axis=1)
    return Scores(spec, scores)


def agreeing(spec):
    return Scores(spec, np.tile(np.arange(10.0), (20, 1)))


def unrelated(spec):
    return Scores(spec, np.random.default_rng(0).normal(size=(20, 40)))


# Which seeds are due


def test_first_those_of_the_first_look_and_nobody_is_judged_before_they_are_done():
    spec = sweep()
    judge = agreeing(spec)
    assert due(spec, configuration(spec), {}, judge) == Due(seeds=(0, 1, 2, 3, 4, 5))
    traces = dict.fromkeys(runs_of(spec)[:5], done(spec))
    assert due(spec, configuration(spec), traces, judge).seeds == (0, 1, 2, 3, 4, 5)
    assert judge.asked == []


def test_a_reliable_mean_ends_at_the_first_look():
    spec = sweep()
    traces = dict.fromkeys(runs_of(spec)[:6], done(spec))
    found = due(spec, configuration(spec), traces, agreeing(spec))
    assert found.seeds == (0, 1, 2, 3, 4, 5)
    (look,) = found.looks
    assert look.reached
    assert look.due == 6


def test_one_that_is_not_goes_on_look_by_look_to_the_most():
    spec = sweep()
    judge = unrelated(spec)
    for have, expected in ((6, 8), (8, 12), (12, 20), (20, 20)):
        traces = dict.fromkeys(runs_of(spec)[:have], done(spec))
        found = due(spec, configuration(spec), traces, judge)
        assert found.seeds == tuple(range(expected))
    assert [look.due for look in found.looks] == [6, 8, 12, 20]
    assert found.looks[-1].last
    assert not found.looks[-1].reached


@pytest.mark.parametrize("state", [RUNNING, LOST])
def test_a_look_waits_for_a_seed_that_runs_or_was_lost(state):
    spec = sweep()
    judge = agreeing(spec)
    runs = runs_of(spec)
    traces = dict.fromkeys(runs[:5], done(spec)) | {runs[5]: state}
    assert due(spec, configuration(spec), traces, judge).looks == ()
    # What is done beyond, from a former sweep say, does not make up for it.
    traces |= dict.fromkeys(runs[6:], done(spec))
    assert due(spec, configuration(spec), traces, judge).looks == ()
    assert judge.asked == []


def test_a_seed_that_failed_for_good_is_not_counted_and_not_replaced():
    spec = sweep()
    judge = agreeing(spec)
    runs = runs_of(spec)
    traces = dict.fromkeys(runs[:6], done(spec)) | {runs[2]: FAILED}
    found = due(spec, configuration(spec), traces, judge)
    assert found.seeds == (0, 1, 2, 3, 4, 5)
    assert judge.asked == [(1, [0, 1, 3, 4, 5])]
    assert (found.looks[0].due, found.looks[0].runs) == (6, 5)
    # Unless it is tried again: then the look waits for it.
    assert due(spec, configuration(spec), traces, judge, again={runs[2]}).looks == ()


def test_too_many_failures_lead_to_more_seeds():
    spec = sweep()
    runs = runs_of(spec)
    traces = dict.fromkeys(runs[:3], done(spec)) | dict.fromkeys(runs[3:6], FAILED)
    found = due(spec, configuration(spec), traces, agreeing(spec))
    assert found.seeds == tuple(range(8))
    assert not found.looks[0].reached


def test_more_runs_in_the_store_than_are_due_change_nothing():
    spec = sweep()
    judge = agreeing(spec)
    found = due(spec, configuration(spec), dict.fromkeys(runs_of(spec), done(spec)), judge)
    assert found.seeds == (0, 1, 2, 3, 4, 5)
    assert judge.asked == [(1, [0, 1, 2, 3, 4, 5])]


def test_runs_that_lack_the_metrics_signal_are_trained_first():
    spec = sweep()
    without = Trace(tracking_run="r", state="done", signals=frozenset({"label_margin"}))
    traces = dict.fromkeys(runs_of(spec), without)
    found = due(spec, configuration(spec), traces, agreeing(spec))
    assert found == Due(seeds=(0, 1, 2, 3, 4, 5))


def test_a_damaged_run_leaves_the_look_open():
    spec = sweep()
    traces = dict.fromkeys(runs_of(spec), done(spec))
    found = due(spec, configuration(spec), traces, lambda *_: None)
    assert found == Due(seeds=(0, 1, 2, 3, 4, 5))


def test_a_metric_that_stays_undefined_ends_at_once():
    spec = sweep()
    traces = dict.fromkeys(runs_of(spec), done(spec))
    found = due(spec, configuration(spec), traces, Scores(spec, np.full((20, 5), np.nan)))
    assert len(found.seeds) == 6
    assert found.looks[0].undefined


def test_a_regimen_without_the_metric_has_the_fewest_seeds():
    spec = sweep(regimens={"supervised": {}, "contrastive": {}})
    judge = agreeing(spec)
    assert due(spec, configuration(spec, "contrastive"), {}, judge) == Due(seeds=tuple(range(6)))
    assert spec.most_seeds("contrastive") == tuple(range(6))
    assert spec.most_seeds("supervised") == tuple(range(20))
    whole, without = statements.statements(spec, [])
    assert "looks at 6, 8, 12, 20, until the reliability of el2n is surely 0.9 or more" in whole
    assert "98.75%" in whole
    assert without == "adaptive seeds: 6 seeds for regimens that lack el2n: contrastive"


def test_fixed_seeds_are_due_at_once():
    spec = sweep(seeds=3)
    assert due(spec, configuration(spec), {}, agreeing(spec)) == Due(seeds=(0, 1, 2))
    assert not statements.statements(spec, [])


@settings(max_examples=15)
@given(st.integers(1, 20), st.sets(st.integers(0, 19), max_size=8), st.integers(0, 2**32))
def test_whatever_the_order_of_events_the_same_looks_are_taken(count, failing, seed):
    """A driver that is killed and asks anew at any time, while seeds end in any order."""
    spec = sweep()
    one, runs = configuration(spec), runs_of(spec)

    def drive(chance):
        traces, judge = {}, ready_at(spec, count)
        while True:
            found = due(spec, one, traces, judge)
            # Asking again is asking the same; NaN is told by its name.
            assert repr(due(spec, one, dict(traces), ready_at(spec, count))) == repr(found)
            every = cells(spec, [one], traces, {one.configuration_id: found})
            todo = to_train(every, retry_failed=False)
            if not todo:
                return found, traces
            # Any of those that are due ends next, others are cut off while they run.
            chance.shuffle(todo)
            ended = todo[0].run
            traces[ended.run_id] = FAILED if ended.seed in failing else done(spec)
            traces |= {cell.run.run_id: RUNNING for cell in todo[1 : chance.randint(1, 3)]}

    found, traces = drive(random.Random(seed))
    again, _ = drive(random.Random(0))
    assert repr(again) == repr(found)
    assert found.looks[-1].last
    assert len(found.seeds) in PLAN
    assert found.seeds == tuple(range(len(found.seeds)))
    # Nothing was trained that was not due, and what was due has ended.
    assert {*traces} == {*runs[: len(found.seeds)]}
    assert all(not look.last for look in found.looks[:-1])
    # The decision by definition, from the scores alone.
    scores = ready_at(spec, count).scores
    for look in found.looks:
        kept = [seed for seed in range(look.due) if seed not in failing]
        assert repr(look) == repr(look_at(scores[kept], look.number, PLAN, 0.9))


def test_a_larger_maximum_goes_on_where_the_smaller_ended():
    short, longer = (sweep(seeds={"min": 6, "max": most, "until": UNTIL}) for most in (8, 20))
    one, traces = configuration(short), dict.fromkeys(runs_of(short), done(short))
    assert due(short, one, traces, unrelated(short)).looks[-1].last
    on = due(longer, one, traces, unrelated(longer))
    added = to_train(cells(longer, [one], traces, {one.configuration_id: on}), retry_failed=False)
    assert [cell.run.seed for cell in added] == [8, 9, 10, 11]


# What is asked of runs


def test_the_metric_is_recorded_and_scored_though_others_are_asked_for():
    spec = sweep(metrics=["aum"])
    assert [*spec.needs.metrics] == ["aum", "el2n"]
    assert spec.needs.signals["supervised"] == {"label_margin", "el2n"}
    assert [*sweep(metrics=["el2n", "aum"]).needs.metrics] == ["el2n", "aum"]


def test_it_is_kept_where_the_file_keeps_no_embedding():
    until = {"metric": "prototypicality", "reliability": 0.9}
    seeds = {"min": 6, "max": 20, "until": until}
    spec = sweep(seeds=seeds, metrics="all", keep={"embedding": "none"})
    assert "emb" in spec.needs.signals["supervised"]
    assert "emb" not in replace(spec, adaptive=None).needs.signals["supervised"]
    assert spec.needs.ruled_out == {"emb"}


def test_it_is_on_though_the_size_has_it_off():
    seeds = {"min": 6, "max": 20, "until": {"metric": "vog", "reliability": 0.9}}
    large = sweep(seeds=seeds, metrics="all")
    large = replace(large, dataset_size=(1_300_000, 10, 3, 32, 32))
    fixed = replace(large, adaptive=None)
    assert "vog" in large.needs.metrics
    assert "vog" not in fixed.needs.metrics

    def off(spec):
        return {k for s in spec.needs.shortfalls if s.limit.off for k in s.metrics}

    assert off(fixed) - off(large) == {"vog"}


# What is said


def looked(number, runs, low, *, value=0.9, reached=False, undefined=False, of=4):
    return Look(
        number=number, of=of, due=PLAN[number - 1], runs=runs,
        reliability=Estimate(value=value, low=low, high=0.95, reason="why" if undefined else ""),
        forecast=Estimate(value=9.0, low=6.0, high=math.inf), reached=reached, undefined=undefined,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("looks", "seeds", "said"),
    [
        ((), 6, "6 seeds are due for look 1; not all are done"),
        ((looked(1, 6, 0.8),), 8, "8 seeds are due for look 2; not all are done"),
        (
            (looked(1, 6, 0.8), looked(2, 8, 0.9, value=0.93, reached=True)),
            8,
            (
                "8 seeds are enough, reliability 0.930 [0.900, 0.950] of el2n at least 0.9; "
                "forecast at 6: 9 [6, ∞]"
            ),
        ),
        (
            (looked(1, 5, 0.8), looked(4, 19, 0.8, value=0.87)),
            20,
            (
                "reached 19 seeds (1 more failed), reliability 0.870 [0.800, 0.950] of el2n below "
                "0.9; forecast at 5: 9 [6, ∞]"
            ),
        ),
        (
            (looked(4, 20, -math.inf, value=0.92),),
            20,
            (
                "reached 20 seeds, reliability 0.920 [-1.000, 0.950] of el2n not surely 0.9; "
                "forecast at 20: 9 [6, ∞]"
            ),
        ),
        (
            (looked(1, 6, math.nan, value=math.nan, undefined=True),),
            6,
            ("ended at 6 seeds: el2n has no reliability (why), which further seeds do not change"),
        ),
    ],
)
def test_how_far_a_configuration_came_is_told_in_one_line(looks, seeds, said):
    spec = sweep()
    proposals = search.proposals(spec, [], {})
    mine = {configuration(spec).configuration_id: Due(seeds=tuple(range(seeds)), looks=looks)}
    assert adaptive_seeds.lines(spec, proposals, mine) == [f"supervised: {said}"]


def test_the_table_has_a_row_a_look_and_goes_with_its_looks(tmp_path):
    spec = sweep()
    looks = (looked(1, 6, 0.8), looked(2, 8, 0.9, reached=True))
    mine = {configuration(spec).configuration_id: Due(seeds=tuple(range(8)), looks=looks)}
    table = adaptive_seeds.table(spec, search.proposals(spec, [], {}), mine)
    assert [*table] == [*adaptive_seeds.COLUMNS]
    assert table["reached"].tolist() == [False, True]
    assert table["seeds"].tolist() == [6, 8]
    adaptive_seeds.write(table, tmp_path)
    assert len(pd.read_csv(tmp_path / "seeds.csv")) == 2
    adaptive_seeds.write(table[:0], tmp_path)
    assert not [*tmp_path.iterdir()]


# Mistakes in the file


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ({"min": 8, "max": 6, "until": UNTIL}, "seeds.max: expected at least the min of 8; got 6"),
        (
            {"min": 3, "max": 6, "until": UNTIL},
            "seeds.min: expected at least 4, since fewer seeds give no interval; got 3",
        ),
        ({"min": 6, "max": 20}, "missing key 'until' in 'seeds'"),
        ({"max": 20, "until": UNTIL}, "missing key 'min' in 'seeds'"),
        ({"min": 6, "until": UNTIL}, "missing key 'max' in 'seeds'"),
        ({}, "missing key 'min' in 'seeds'"),
        (
            {"min": 6, "max": 20, "until": {"reliability": 0.9}},
            "missing key 'metric' in 'seeds.until'",
        ),
        (
            {"min": 6, "max": 20, "until": {"metric": "el2n"}},
            "missing key 'reliability' in 'seeds.until'",
        ),
        (
            {"min": 6, "max": 20, "until": {**UNTIL, "reliability": 1.5}},
            "seeds.until.reliability: expected a number above 0 and below 1; got 1.5",
        ),
        (
            {"min": 6, "max": 20, "until": {**UNTIL, "reliability": 1}},
            "seeds.until.reliability: expected a number above 0 and below 1; got 1.0",
        ),
        (
            {"min": 6, "max": 20, "until": {**UNTIL, "reliability": "high"}},
            "seeds.until.reliability: expected a number; got 'high'",
        ),
        (
            {"min": 6, "max": 20, "until": {**UNTIL, "metric": "el2m"}},
            "seeds.until.metric: unknown metric 'el2m'; known: …",
        ),
        (
            {"min": 6, "max": 20, "until": {**UNTIL, "metric": "all"}},
            "seeds.until.metric: unknown metric 'all'; known: …",
        ),
        (
            {"min": 6, "max": 20, "until": {**UNTIL, "metric": "image_entropy"}},
            (
                "seeds.until.metric: expected a metric of single runs, which depends on the seed; "
                "got 'image_entropy', which is computed from the images"
            ),
        ),
        (
            {"min": 6, "max": 20, "until": {**UNTIL, "metric": "ensemble_mi"}},
            (
                "seeds.until.metric: expected a metric of single runs, which depends on the seed; "
                "got 'ensemble_mi', which is computed from several runs at once"
            ),
        ),
        (
            {"min": 6, "max": 20, "until": {**UNTIL, "metric": "ssft"}},
            (
                "seeds.until.metric: 'ssft' needs correct_second_split, correct_first_split; "
                "expected a regimen that records it; got supervised"
            ),
        ),
        (
            {"min": 6, "max": 20, "until": UNTIL, "step": 2},
            "unknown key 'step' in 'seeds'; known: max, min, until",
        ),
        (
            {"min": 6, "max": 20, "until": {**UNTIL, "metrics": "aum"}},
            "unknown key 'metrics' in 'seeds.until'; known: metric, reliability",
        ),
        ({"min": 6, "max": 20, "until": 0.9}, "seeds.until: expected keys and values; got 0.9"),
        (
            {"min": 6.5, "max": 20, "until": UNTIL},
            "seeds.min: expected a whole number; got 6.5",
        ),
        ({"min": True, "max": 20, "until": UNTIL}, "seeds.min: expected a whole number; got true"),
        (
            {"min": 6, "max": 200_000, "until": UNTIL},
            "seeds: expected at most 100000 seeds; got 200000",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(seeds, said):
    with pytest.raises(ExperimentError) as caught:
        sweep(seeds=seeds)
    text = str(caught.value)
    assert text.startswith(f"digits.yaml: {said.removesuffix('…')}")
    assert said.endswith("…") or text == f"digits.yaml: {said}"


def test_a_bayesian_search_has_fixed_seeds():
    with pytest.raises(ExperimentError, match=r"seeds: expected a count, .* method: bayes"):
        sweep(method="bayes")
    assert sweep(method="random").adaptive


def test_a_variant_may_decide_and_one_look_is_allowed():
    spec = sweep(seeds={"min": 6, "max": 6, "until": {**UNTIL, "metric": "aum.train"}})
    assert spec.adaptive.looks == (6,)
    assert spec.seeds == (0, 1, 2, 3, 4, 5)
    assert [*spec.needs.metrics] == ["aum", "aum.train"]


# Real runs

EXPERIMENT = """
name: first
dataset: {name: digits, subset: 300}
validation: {split: 0.2}
model: {name: mlp, width: 16}
metrics: [aum, knn_distance]
regimens:
  supervised: {train: {max_epochs: 4, batch_size: 32, lr: 0.1}}
  contrastive: {train: {max_epochs: 1, batch_size: 64}}
seeds: {min: 4, max: 12, until: {metric: mean_loss, reliability: 0.4}}
"""


# Kills the driver before it can learn what the first seeds of the second look came to.
KILLER = """
import os, signal
from pathlib import Path
import sweep.execution.driver

MARKER = Path({marker!r})
hear = sweep.execution.driver._Session.hear

def die(session, progress):
    seeds = {{c.run.run_id: c.run.seed for c in session.cells}}
    if progress.state == "done" and seeds[progress.run_id] >= 4:
        MARKER.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    hear(session, progress)

sweep.execution.driver._Session.hear = die
"""


@pytest.mark.slow
def test_scores_are_cached_by_who_may_and_a_damaged_run_is_trained_again(workdir):
    path = workdir / "first.yaml"
    path.write_text(EXPERIMENT)
    content = read(path)
    content["regimens"].pop("contrastive")
    spec, dataset = driver.load(check(content, path.name))
    store = Store.create(f"sqlite:///{workdir / 'mlflow.db'}", spec.name)
    (proposal,) = search.proposals(spec, [], {})
    one = proposal.configuration
    places = Places(
        store=store, name=spec.name, storage_path=spec.storage_path, recording=spec.needs.recording,
    )  # fmt: skip
    pack = Pack(
        configuration=one, seeds=(0, 1, 2, 3), parent_run=store.save_configuration(one, {}, 0)
    )
    list(run_pack(pack, dataset, places))
    folder = workdir / "sweeps" / "first" / "scores"
    # Who only looks leaves nothing behind, and sees the same.
    seen = status.look(spec, store)
    assert not folder.exists()
    judge = adaptive_seeds.Judge(spec, store, keep=True)
    assert status.look(spec, store, judge).due == seen.due
    assert len([*folder.glob("*.parquet")]) == 4
    assert status.look(spec, store).due == seen.due
    found = only(seen.due)
    assert len(found.seeds) == 6
    assert found.looks[0].runs == 4

    for cached in folder.iterdir():
        cached.unlink()
    victim = seen.cells[2]
    file = store.local_folder(victim.trace.tracking_run) / "dynamics" / "epoch=0001.parquet"
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    assert status.look(spec, store).cells[2].state == "done"
    sweep_now = status.look(spec, store, adaptive_seeds.Judge(spec, store, keep=True))
    assert [c.state for c in sweep_now.cells] == ["done", "done", "failed", "done"]
    assert [c.run.seed for c in to_train(sweep_now.cells, retry_failed=False)] == [2]
    list(run_pack(replace(pack, seeds=(2,)), dataset, places))
    assert status.look(spec, store).due == seen.due

    # A failure for good is not counted, unless it is tried again: then it is what it then becomes.
    store.fail(victim.trace.tracking_run, "diverged", final=True)
    assert [look.runs for look in only(status.look(spec, store).due).looks] == [3]
    session = driver._Session(spec, store, retry_failed=True)
    (again,) = session.next_packs()
    assert again.seeds == (2,)
    assert session.next_packs() == []
    session.hear(Progress(run_id=victim.run.run_id, epoch=0, epochs=0, state="failed"))
    assert session._complete
    assert [pack.seeds for pack in session.next_packs()] == [(4,), (5,)]
    assert "3 seeds" in session.news[0]


def only(due):
    (found,) = due.values()
    return found


@pytest.mark.slow
def test_a_sweep_ends_before_its_most_seeds_and_goes_on_the_same_after_kill_9(workdir, ray_session):
    path = workdir / "first.yaml"
    path.write_text(EXPERIMENT)
    code, out, err = command("run", path, "--no-figures")
    assert code == 0, err
    assert "look 1 of 4: supervised: 4 seeds, reliability of mean_loss" in err
    assert "look 2 of 4: supervised: 6 seeds, " in err
    assert "that is enough" in err
    assert "seeds     supervised: 6 seeds are enough, reliability" in out
    assert "seeds     contrastive: 4 seeds, not adaptive: it does not record mean_loss" in out
    store, whole = find("first")
    assert [c.run.seed for c in whole.cells] == [*range(6), *range(4)]
    assert {c.state for c in whole.cells} == {"done"}
    table = pd.read_csv(workdir / "sweeps" / "first" / "seeds.csv")
    assert table["reached"].tolist() == [False, True]
    stable = pd.read_csv(workdir / "sweeps" / "first" / "stability.csv")
    runs = stable[stable["metric"] == "knn_distance"].set_index("regimen")["runs"]
    assert runs.to_dict() == {"supervised": 6, "contrastive": 4}
    assert stable["missing_seeds"].isna().all()
    mine = stable[(stable["metric"] == "mean_loss")]
    assert mine["reliability"].item() == pytest.approx(table["reliability"].iloc[-1])
    assert command("status", "first")[1].count("seeds     ") == 2

    # Once more under another name; the driver is killed as soon as a seed of the second look is
    # done, and the runs that it had started are left to themselves.
    marker = workdir / "killed.marker"
    (workdir / "killer.py").write_text(KILLER.format(marker=str(marker)))
    line = [sys.executable, "-m", "sweep", "run", str(path), "name=second", "plugins=[killer.py]"]
    done = subprocess.run(line, capture_output=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert marker.exists()
    assert b"look 1 of 4: supervised: 4 seeds" in done.stderr
    assert b"look 2" not in done.stderr
    code, out, err = command("run", path, "name=second", "--no-figures")
    assert code == 0, err
    assert "look 1 of 4" not in err
    other_store, again = find("second")
    assert again.due == whole.due
    for left, right in zip(whole.cells, again.cells, strict=True):
        assert left.run == right.run
        one, other = left.trace.tracking_run, right.trace.tracking_run
        assert stored(store, one) == stored(other_store, other)
    for file in ("seeds.csv", "stability.csv", "samples.parquet", "agreement.csv"):
        first, second = (workdir / "sweeps" / name / file for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes(), file

    # A fixed number on the command line takes the place of the file's.
    assert "10 cells, 1 to train" in command("run", path, "--dry-run", "--seeds", "5")[1]
    # A target out of reach, from a larger sweep's seeds: told, and no failure.
    strict = ("seeds={min: 4, max: 6, until: {metric: mean_loss, reliability: 0.99}}",)
    code, out, _ = command("run", path, "--no-aggregate", *strict)
    assert code == 0
    assert "seeds     supervised: reached 6 seeds, reliability" in out
    assert "below 0.99; forecast at 4: " in out
