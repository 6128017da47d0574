"""What comes next, from a sweep and what its store knows: searches, cells, packs; no store."""

import json
import statistics
from dataclasses import replace

import pytest
from scipy import stats

from hardness.training import REGIMENS
from sweep.experiment.check import check
from sweep.experiment.runs import Configuration, Proposal, Trace, canonical_json
from sweep.experiment.sections import ExperimentError
from sweep.planning.due_cells import cells, needed_passes, packs, to_train
from sweep.planning.search import DEFAULT_CONFIGURATIONS, ROUND, proposals

RATE = {"train.lr": {"min": 1e-4, "max": 1.0, "distribution": "log_uniform"}}
PLANE = {"train.lr": {"min": 0.01, "max": 1}, "train.momentum": {"min": 0, "max": 0.9}}
SMALL = {"train.lr": {"values": [0.1, 0.2, 0.3]}, "train.batch_size": {"values": [16, 32]}}


def sweep(parameters, *, fixed=None, **keys):
    """A checked sweep of one supervised search."""
    content = {
        "name": "digits",
        "dataset": {"name": "digits"},
        "regimens": {"supervised": {**(fixed or {}), "parameters": parameters}},
        "seeds": 2,
        "metrics": ["aum"],
        **keys,
    }
    return replace(check(content, "digits.yaml"), dataset_digest="0" * 64)


def finished(spec, known, objective, name="val_accuracy"):
    """Traces of done runs: ``objective(parameters, seed)`` is what each of them reached."""
    found = {}
    for proposal in known:
        for cell in cells(spec, [proposal.configuration], {}):
            found[cell.run.run_id] = Trace(
                tracking_run=f"tracked {cell.run.run_id}",
                state="done",
                signals=spec.needs.signals[proposal.configuration.regimen],
                objectives={name: objective(proposal.parameters, cell.run.seed)},
            )
    return found


def searched(spec, objective, known=()):
    """A whole search: ask, finish what is proposed, ask again, until nothing is added."""
    known = list(known)
    while True:
        asked = proposals(spec, known, finished(spec, known, objective))
        assert asked[: len(known)] == known
        if len(asked) == len(known):
            return known
        known = asked


def stored(known):
    """The proposals as a tracking store gives them back."""
    return [
        Proposal(
            configuration=Configuration.from_json(canonical_json(k.configuration)),
            parameters=json.loads(json.dumps(k.parameters)),
            number=k.number,
        )
        for k in known
    ]


def ids(known):
    return [k.configuration.configuration_id for k in known]


def hill(parameters, seed):
    """Best at lr 0.5 and momentum 0.3, whatever the seed; worse by the square of the distance."""
    return -((parameters["train.lr"] - 0.5) ** 2) - (parameters["train.momentum"] - 0.3) ** 2 + seed


# Grid


def test_a_grid_is_the_product_in_order():
    found = proposals(sweep(SMALL), [], {})
    pairs = [(p.parameters["train.lr"], p.parameters["train.batch_size"]) for p in found]
    assert pairs == [(0.1, 16), (0.1, 32), (0.2, 16), (0.2, 32), (0.3, 16), (0.3, 32)]
    assert [p.number for p in found] == [0, 1, 2, 3, 4, 5]
    assert len({*ids(found)}) == 6
    train = found[3].configuration.options["train"]
    assert (train["lr"], train["batch_size"], train["momentum"]) == (0.2, 32, 0.9)


def test_a_grid_is_cut_at_its_limit():
    full = proposals(sweep(SMALL), [], {})
    assert proposals(sweep(SMALL, max_configurations=4), [], {}) == full[:4]
    # Five values each of eight parameters: never listed as a whole.
    values = {"values": [0.1, 0.2, 0.3, 0.4, 0.5]}
    keys = ("brightness", "contrast", "saturation", "flip", "grayscale")
    huge = {f"augmentation.{k}": values for k in keys}
    huge |= {"train.lr": values, "train.momentum": values, "model.dropout": values}
    assert len(proposals(sweep(huge, max_configurations=3), [], {})) == 3


def test_without_parameters_there_is_one_configuration_whatever_the_method():
    for method in ("grid", "random", "bayes"):
        (only,) = proposals(sweep({}, method=method), [], {})
        assert only.parameters == {}
    assert only.configuration.options["train"]["lr"] == 0.1


def test_values_that_mean_the_same_configuration_are_one():
    found = proposals(sweep({"train.lr": {"values": [1, 0.5, 1.0, 0.25]}}), [], {})
    assert [p.parameters["train.lr"] for p in found] == [1, 0.5, 0.25]
    assert [p.number for p in found] == [0, 1, 2]


def test_a_default_that_is_written_out_is_the_same_configuration():
    (silent,) = proposals(sweep({}), [], {})
    (spoken,) = proposals(sweep({}, fixed={"train": {"lr": 0.1, "max_epochs": 30}}), [], {})
    (searched_for,) = proposals(sweep({"train.lr": {"values": [0.1]}}), [], {})
    assert ids([silent]) == ids([spoken]) == ids([searched_for])


def test_parameters_of_the_model_change_the_model_alone():
    parameters = {"model.name": {"values": ["mlp", "small_cnn"]}, "model.width": {"values": [4, 8]}}
    found = proposals(sweep(parameters), [], {})
    models = [(p.configuration.model["name"], p.configuration.model["width"]) for p in found]
    assert models == [("mlp", 4), ("mlp", 8), ("small_cnn", 4), ("small_cnn", 8)]
    assert len({canonical_json(p.configuration.options) for p in found}) == 1
    assert len({*ids(found)}) == 4


def test_each_regimen_is_searched_by_itself():
    regimens = {
        "supervised": {"parameters": {"train.lr": {"values": [0.1, 0.2]}}},
        "contrastive": {"parameters": {"temperature": {"values": [0.5, 0.7]}}},
    }
    found = proposals(sweep({}, regimens=regimens), [], {})
    assert [p.configuration.regimen for p in found] == ["supervised"] * 2 + ["contrastive"] * 2
    assert [p.number for p in found] == [0, 1, 0, 1]


# Random search


def test_a_random_search_is_the_same_on_every_call_and_follows_its_seed():
    spec = sweep(PLANE, method="random", max_configurations=8)
    first = proposals(spec, [], {})
    assert len(first) == 8
    assert proposals(spec, first[:3], finished(spec, first[:3], hill)) == first
    assert not {*ids(first)} & {*ids(proposals(replace(spec, search_seed=1), [], {}))}
    assert len(proposals(replace(spec, max_configurations=None), [], {})) == DEFAULT_CONFIGURATIONS


def test_more_random_configurations_keep_the_former_ones():
    few = sweep(SMALL, method="random", max_configurations=3)
    assert proposals(replace(few, max_configurations=5), [], {})[:3] == proposals(few, [], {})


def test_a_random_search_finds_every_value_of_a_small_list_once():
    found = proposals(sweep(SMALL, method="random"), [], {})
    assert len(ids(found)) == len({*ids(found)}) == 6
    assert [p.number for p in found] == list(range(6))


def test_random_values_follow_their_distributions():
    parameters = {
        "train.momentum": {"min": 0.2, "max": 0.9},
        "train.lr": {"min": 1e-4, "max": 1e-1, "distribution": "log_uniform"},
        "train.batch_size": {"min": 8, "max": 11, "distribution": "int_uniform"},
        "train.optimizer": {"values": ["sgd", "adamw"]},
    }
    found = proposals(sweep(parameters, method="random", max_configurations=400), [], {})
    drawn = {key: [p.parameters[key] for p in found] for key in parameters}
    momentum = stats.uniform(0.2, 0.7)
    assert stats.kstest(drawn["train.momentum"], momentum.cdf).pvalue > 0.01
    assert stats.kstest(drawn["train.lr"], stats.loguniform(1e-4, 1e-1).cdf).pvalue > 0.01
    # The test can tell: the one is not the other.
    assert stats.kstest(drawn["train.lr"], stats.uniform(1e-4, 1e-1).cdf).pvalue < 1e-6
    counts = [drawn["train.batch_size"].count(n) for n in (8, 9, 10, 11)]
    assert sum(counts) == 400
    assert stats.chisquare(counts).pvalue > 0.01
    assert all(isinstance(n, int) for n in drawn["train.batch_size"])
    assert 150 < drawn["train.optimizer"].count("sgd") < 250


# Bayesian search


def test_a_bayesian_search_runs_in_rounds_to_its_limit():
    spec = sweep(PLANE, method="bayes", max_configurations=12)
    known, sizes = [], []
    while True:
        traces = finished(spec, known, hill)
        asked = proposals(spec, known, traces)
        assert proposals(spec, known, traces) == asked
        if len(asked) == len(known):
            break
        sizes.append(len(asked) - len(known))
        known = asked
    assert sizes == [ROUND] * 6
    assert [k.number for k in known] == list(range(12))
    assert len({*ids(known)}) == 12
    for k in known:
        assert 0.01 <= k.parameters["train.lr"] <= 1
        assert 0 <= k.parameters["train.momentum"] <= 0.9


def test_a_bayesian_search_restarted_at_any_point_goes_the_same_way():
    spec = sweep(PLANE, method="bayes", max_configurations=12)
    whole = searched(spec, hill)
    for lost_after in range(12):
        known = stored(whole[:lost_after])
        assert searched(spec, hill, known) == whole


def test_a_greater_limit_goes_on_where_the_search_had_ended():
    spec = sweep(PLANE, method="bayes", max_configurations=5)
    short = searched(spec, hill)
    assert len(short) == 5
    longer = replace(spec, max_configurations=9)
    assert searched(longer, hill, stored(short)) == searched(longer, hill)


@pytest.mark.parametrize("state", ["missing", "running", "failed"])
def test_a_round_waits_for_each_of_its_seeds(state):
    spec = sweep(PLANE, method="bayes")
    known = proposals(spec, [], {})
    traces = finished(spec, known, hill)
    assert len(proposals(spec, known, traces)) == 2 * ROUND
    last = cells(spec, [known[-1].configuration], {})[-1].run.run_id
    traces[last] = Trace(tracking_run="r", state=state, final=False)
    assert proposals(spec, known, traces) == known


def test_the_mean_over_seeds_decides():
    spec = sweep(PLANE, method="bayes", max_configurations=12, seeds=3)
    known = searched(replace(spec, max_configurations=8), hill)
    spread = finished(spec, known, lambda p, s: hill(p, 0) + (5.0, -2.5, -2.5)[s])
    steady = finished(spec, known, lambda p, _: hill(p, 0))
    flipped = finished(spec, known, lambda p, _: -hill(p, 0))
    assert proposals(spec, known, spread) == proposals(spec, known, steady)
    assert proposals(spec, known, flipped) != proposals(spec, known, steady)


def test_one_lucky_seed_does_not_mislead():
    def lucky(parameters, seed):
        """Above 0.5 the first of three seeds is perfect, the others fail; below all are decent."""
        return (1.0, 0.0, 0.0)[seed] if parameters["train.lr"] > 0.5 else 0.6

    def share_below(seeds):
        late = []
        for search_seed in range(6):
            keys = {"max_configurations": 20, "search_seed": search_seed, "seeds": seeds}
            spec = sweep({"train.lr": {"min": 0.01, "max": 1}}, method="bayes", **keys)
            late += [k.parameters["train.lr"] < 0.5 for k in searched(spec, lucky)[10:]]
        return statistics.fmean(late)

    assert share_below(seeds=3) > 2 / 3
    # Judged by the first seed alone, the same search goes the other way.
    assert share_below(seeds=1) < 1 / 3


@pytest.mark.parametrize("damage", ["failed", "nan"])
def test_a_configuration_with_a_failed_seed_counts_as_failed(damage):
    spec = sweep(PLANE, method="bayes", max_configurations=12)
    known = searched(replace(spec, max_configurations=8), hill)
    best = max(known, key=lambda k: hill(k.parameters, 0))
    one, other = (c.run.run_id for c in cells(spec, [best.configuration], {}))

    def after(survivor):
        traces = finished(spec, known, hill)
        traces[one] = replace(traces[one], objectives={"val_accuracy": survivor})
        nan = {"val_accuracy": float("nan")}
        changes = {"state": "failed"} if damage == "failed" else {"objectives": nan}
        traces[other] = replace(traces[other], **changes)
        return proposals(spec, known, traces)

    # Whatever the other seed reached plays no part any more.
    assert after(100.0) == after(-100.0)
    assert len(after(100.0)) == 10
    assert after(100.0) != proposals(spec, known, finished(spec, known, hill))


def test_a_search_goes_on_when_all_has_failed():
    spec = sweep(PLANE, method="bayes", max_configurations=6)
    known = proposals(spec, [], {})
    traces = {k: replace(t, state="failed") for k, t in finished(spec, known, hill).items()}
    assert len(proposals(spec, known, traces)) == 2 * ROUND


def test_a_bayesian_search_ends_when_every_value_was_tried():
    known = searched(sweep(SMALL, method="bayes"), lambda p, _: p["train.lr"])
    assert len(ids(known)) == len({*ids(known)}) == 6
    whole = {"train.batch_size": {"min": 8, "max": 12, "distribution": "int_uniform"}}
    known = searched(sweep(whole, method="bayes"), lambda p, _: p["train.batch_size"])
    assert sorted(k.parameters["train.batch_size"] for k in known) == [8, 9, 10, 11, 12]
    assert all(isinstance(k.parameters["train.batch_size"], int) for k in known)


def test_lists_and_words_can_be_searched_for():
    parameters = {
        "augmentation.crop_scale": {"values": [[0.2, 1.0], [0.5, 1.0], None]},
        "train.optimizer": {"values": ["sgd", "adamw"]},
    }
    spec = sweep(parameters, method="bayes")
    known = searched(spec, lambda p, seed: float(p["train.optimizer"] == "sgd") + seed)
    assert len({*ids(known)}) == 6
    assert (
        searched(
            spec, lambda p, seed: float(p["train.optimizer"] == "sgd") + seed, stored(known[:3])
        )
        == known
    )


def test_a_bayesian_search_beats_chance_on_a_smooth_objective():
    def mean_of_second_half(method):
        found = []
        for search_seed in range(5):
            spec = sweep(PLANE, method=method, max_configurations=24, search_seed=search_seed)
            found += [hill(k.parameters, 0) for k in searched(spec, hill)[12:]]
        return statistics.fmean(found)

    # Both negative: a fifth nearer to the top at the least.
    assert mean_of_second_half("bayes") > 0.8 * mean_of_second_half("random")


def test_a_search_goes_the_way_of_its_goal():
    def last(goal):
        metric = {"metric": {"name": "val_loss", "goal": goal}}
        spec = sweep(RATE, method="bayes", max_configurations=16, fixed=metric)
        known = []
        while True:
            traces = finished(spec, known, lambda p, _: p["train.lr"], "val_loss")
            asked = proposals(spec, known, traces)
            if len(asked) == len(known):
                return statistics.median(k.parameters["train.lr"] for k in known[8:])
            known = asked

    assert last("maximize") > 10 * last("minimize")


def test_regimens_do_not_wait_for_each_other():
    search = {"parameters": {"train.lr": {"min": 0.1, "max": 1}}}
    regimens = {"supervised": search, "contrastive": search}
    spec = sweep({}, regimens=regimens, method="bayes")
    known = proposals(spec, [], {})
    assert [k.configuration.regimen for k in known] == ["supervised"] * 2 + ["contrastive"] * 2
    asked = proposals(spec, known, finished(spec, known[:2], lambda _, seed: seed))
    assert [k.configuration.regimen for k in asked] == ["supervised"] * 4 + ["contrastive"] * 2


def test_more_seeds_reopen_a_search_and_more_metrics_do_too():
    spec = sweep(PLANE, method="bayes")
    known = proposals(spec, [], {})
    traces = finished(spec, known, hill)
    assert len(proposals(spec, known, traces)) == 4
    assert proposals(replace(spec, seeds=(0, 1, 2)), known, traces) == known
    assert proposals(replace(spec, metrics=("aum", "el2n")), known, traces) == known


@pytest.mark.parametrize(
    "edited",
    [
        {"fixed": {"train": {"max_epochs": 3}}},
        {"parameters": {**PLANE, "train.lr": {"min": 2, "max": 3}}},
        {"parameters": {"train.lr": PLANE["train.lr"]}},
        {"parameters": {**PLANE, "train.weight_decay": {"min": 0, "max": 1}}},
        {"vary": "weights"},
        {"model": {"name": "mlp"}},
    ],
    ids=str,
)
def test_an_edited_search_leaves_its_former_configurations_out(edited):
    spec = sweep(PLANE, method="bayes", max_configurations=4)
    former = searched(spec, hill)
    changed = sweep(**{"parameters": PLANE, "method": "bayes", "max_configurations": 4, **edited})
    asked = proposals(changed, stored(former), finished(spec, former, hill))
    assert len(asked) == ROUND
    assert not {*ids(asked)} & {*ids(former)}
    # Edited back, the search stands where it was.
    assert proposals(spec, stored(former), finished(spec, former, hill)) == former


def test_a_finished_run_without_the_objective_is_told_in_one_line():
    spec = sweep(PLANE, method="bayes")
    known = proposals(spec, [], {})
    with pytest.raises(ExperimentError, match=r"metric: expected .* which a finished run lacks$"):
        proposals(spec, known, finished(spec, known, hill, "val_loss"))


# Cells, what to train, packs


@pytest.fixture
def grid():
    """A sweep of two configurations and three seeds, one cell in each possible state."""
    spec = sweep({"train.lr": {"values": [0.1, 0.2]}}, seeds=[4, 2, 7])
    configurations = [p.configuration for p in proposals(spec, [], {})]
    runs = [c.run.run_id for c in cells(spec, configurations, {})]
    signals = frozenset({"label_margin", "loss"})
    traces = {
        runs[0]: Trace(tracking_run="a", state="done", signals=signals),
        runs[1]: Trace(tracking_run="b", state="running", epochs=3),
        runs[2]: Trace(tracking_run="c", state="failed", reason="became nan"),
        runs[3]: Trace(tracking_run="d", state="failed", reason="lost", final=False),
        runs[4]: Trace(tracking_run="e", state="missing", reason="no manifest.json"),
    }
    return spec, configurations, traces


def test_cells_are_every_configuration_under_every_seed(grid):
    spec, configurations, traces = grid
    found = cells(spec, configurations, traces)
    assert [c.run.seed for c in found] == [4, 2, 7, 4, 2, 7]
    assert [c.run.configuration for c in found] == [configurations[0]] * 3 + [configurations[1]] * 3
    states = ["done", "running", "failed", "failed", "missing", "missing"]
    assert [c.state for c in found] == states
    assert len({c.run.run_id for c in found}) == 6
    assert cells(spec, [], traces) == []


def test_what_is_neither_done_nor_failed_for_good_is_trained(grid):
    found = cells(*grid)
    assert to_train(found, retry_failed=False) == [found[1], found[3], found[4], found[5]]
    assert to_train(found, retry_failed=True) == found[1:]
    assert to_train([found[0]], retry_failed=True) == []


def test_a_finished_run_that_lacks_an_asked_signal_is_missing(grid):
    spec, configurations, traces = grid
    asked = replace(spec, metrics=("aum", "mean_loss"))
    assert cells(asked, configurations, traces)[0].state == "done"
    asked = replace(spec, metrics=("aum", "el2n"))
    lacking = cells(asked, configurations, traces)[0]
    assert lacking.state == "missing"
    assert to_train([lacking], retry_failed=False) == [lacking]


def scored(spec, configuration, **passes):
    """Cells of a sweep of which every run is done, with these passes made in these epochs."""
    made = {name.removeprefix("of_"): epochs for name, epochs in passes.items()}
    regimen = REGIMENS[configuration.regimen]
    signals = {signal for name in made for signal in regimen.passes[name].signals}
    done = Trace(
        tracking_run="a",
        state="done",
        signals=frozenset({*regimen.signals, *regimen.snapshots, *signals}),
        passes=made,
    )
    runs = [cell.run.run_id for cell in cells(spec, [configuration], {})]
    return cells(spec, [configuration], dict.fromkeys(runs, done))


def asking(*metrics, score_epochs=None, max_epochs=10):
    """A sweep of one configuration, and that configuration."""
    spec = sweep(
        {},
        fixed={"train": {"max_epochs": max_epochs}},
        metrics=[*metrics],
        score_epochs=score_epochs,
    )
    ((proposal),) = proposals(spec, [], {})
    return spec, proposal.configuration


@pytest.mark.parametrize(
    ("asked", "made", "state"),
    [
        (None, (9,), "done"),  # by default the last epoch
        (None, (0, 9), "done"),
        (None, (0,), "missing"),
        ([-1], (9,), "done"),
        ([9], (9,), "done"),
        ([0], (9,), "missing"),
        ([0, -1], (9,), "missing"),
        ([-1, 0, -10], (0, 9), "done"),
        ([0], (0, 4, 9), "done"),  # more than asked for is no reason
    ],
)
def test_a_finished_run_is_trained_again_for_a_pass_in_another_epoch(asked, made, state):
    spec, configuration = asking("grand", score_epochs=asked)
    found = scored(spec, configuration, grand=made)
    assert {cell.state for cell in found} == {state}
    assert bool(to_train(found, retry_failed=False)) == (state == "missing")


def test_a_finished_run_is_trained_again_only_for_passes_of_asked_metrics():
    """Whatever epochs are asked for, where no asked metric reads what a pass records."""
    for asked in (None, [0], [3, -1]):
        assert {c.state for c in scored(*asking("aum", score_epochs=asked))} == {"done"}
    spec, configuration = asking("grand", "odin.mean")
    assert {c.state for c in scored(spec, configuration, grand=(9,))} == {"missing"}
    assert {c.state for c in scored(spec, configuration, grand=(9,), odin=(9,))} == {"done"}


def test_a_pass_at_the_end_has_no_other_epochs():
    spec, configuration = asking("vog_class_z", "grand", score_epochs=[0])
    assert needed_passes(spec, configuration) == {"grand": (0,), "vog": (9,)}
    assert {c.state for c in scored(spec, configuration, vog=(9,), grand=(0,))} == {"done"}
    assert {c.state for c in scored(spec, configuration, vog=(0,), grand=(0,))} == {"missing"}


def test_a_run_that_says_nothing_of_its_passes_is_trained_again():
    """Its signals alone do not tell in which epochs they were recorded."""
    spec, configuration = asking("grand")
    (first, *_) = cells(spec, [configuration], {})
    signals = frozenset({*REGIMENS["supervised"].signals, "grand"})
    silent = Trace(tracking_run="a", state="done", signals=signals)
    assert cells(spec, [configuration], {first.run.run_id: silent})[0].state == "missing"


def test_the_last_epoch_is_that_of_each_configuration():
    lengths = {"train.max_epochs": {"values": [3, 8]}}
    spec = sweep(lengths, metrics=["odin"], score_epochs=[0, -1])
    found = [needed_passes(spec, p.configuration) for p in proposals(spec, [], {})]
    assert found == [{"odin": (0, 2)}, {"odin": (0, 7)}]


def test_what_a_pass_is_asked_for_is_no_part_of_a_run():
    """So that asking for more scores trains the same runs, under the same names."""
    one, other = (
        asking("grand", score_epochs=asked)[1].configuration_id for asked in (None, [0, 3])
    )
    assert one == other == asking("aum")[1].configuration_id


def test_packs_hold_seeds_of_one_configuration_in_order(grid):
    spec, configurations, _ = grid
    first, second = configurations
    parents = {first.configuration_id: "p1", second.configuration_id: "p2"}
    todo = cells(spec, configurations, {})
    for size, expected in [
        (1, [(4,), (2,), (7,), (4,), (2,), (7,)]),
        (2, [(4, 2), (7,), (4, 2), (7,)]),
        (9, [(4, 2, 7), (4, 2, 7)]),
    ]:
        found = packs(todo, size, parents)
        assert [p.seeds for p in found] == expected
        half = len(found) // 2
        assert [p.configuration for p in found] == [first] * half + [second] * half
        assert [p.parent_run for p in found] == ["p1"] * half + ["p2"] * half
    assert packs([], 2, parents) == []
