"""Identity: what it depends on, what it does not, and that it never changes by accident."""

import dataclasses
import json
from typing import Any

import pytest

from hardness.seeding import PURPOSES
from sweep.experiment.runs import (
    Cell,
    Configuration,
    Pack,
    RunSpec,
    Trace,
    canonical_json,
    identity,
)
from sweep.experiment.spec import Resources

FIELDS: dict = {
    "regimen": "supervised",
    "numerics_version": 1,
    "dataset": {"name": "digits", "digest": "ab12", "data_seed": 0, "validation": 0.2},
    "model": {"name": "mlp", "width": 8, "dropout": 0.1},
    "options": {"train": {"lr": 0.1, "max_epochs": 3}, "augmentation": {"crop_scale": [0.5, 1.0]}},
}
CONFIGURATION = Configuration(**FIELDS)
CANONICAL = (
    '{"dataset":{"data_seed":0,"digest":"ab12","name":"digits","validation":0.2},'
    '"model":{"dropout":0.1,"name":"mlp","width":8},"numerics_version":1,'
    '"options":{"augmentation":{"crop_scale":[0.5,1.0]},"train":{"lr":0.1,"max_epochs":3}},'
    '"regimen":"supervised","vary":["weights","order","augmentation","dropout","views"]}'
)


def turned(value):
    """The same value with the keys of every mapping in the opposite order."""
    if isinstance(value, dict):
        return {k: turned(value[k]) for k in reversed(value)}
    return value


def test_the_canonical_text_and_the_ids_are_those_of_the_first_release():
    assert canonical_json(CONFIGURATION) == CANONICAL
    # `sha256sum` of the text above, and of that text with the seed around it.
    assert CONFIGURATION.configuration_id == "1f9b41e8c5b0c451"
    assert RunSpec(configuration=CONFIGURATION, seed=0).run_id == "e0e3dd45ae4f5bab"
    assert RunSpec(configuration=CONFIGURATION, seed=1).run_id == "ca5db26819b06273"


@pytest.mark.parametrize(
    ("beside", "configuration_id", "run_id"),
    [
        ({}, "1f9b41e8c5b0c451", "ca5db26819b06273"),
        ({"plant": {"noise_symmetric": {"rate": 0.1}}}, "7197b47668d9c735", "441e8b63b952c429"),
        ({"part": {"ids": "0123456789abcdef"}}, "4c8f7365dd7810e0", "6b30c89db2eb86d3"),
        ({"part": {"counts": [3, 4]}}, "e4cc30c44ee3a53c", "ce4922161642e132"),
    ],
    ids=["plain", "planted", "ranked part", "random part"],
)
def test_a_stored_text_reads_back_with_the_ids_it_was_stored_under(
    beside, configuration_id, run_id
):
    text = json.dumps({**json.loads(CANONICAL), **beside})
    configuration = Configuration.from_json(text)
    assert configuration.configuration_id == configuration_id
    assert RunSpec(configuration=configuration, seed=1).run_id == run_id
    assert json.loads(canonical_json(configuration)) == json.loads(text)


def test_the_order_of_keys_does_not_matter():
    other = Configuration(**turned(FIELDS))
    assert [*other.options] == ["augmentation", "train"]
    assert other.configuration_id == CONFIGURATION.configuration_id


def test_a_field_that_is_absent_or_none_does_not_matter():
    model = {**FIELDS["model"], "attention": None}
    train = {**FIELDS["options"]["train"], "deterministic": None}
    other = Configuration(
        **{**FIELDS, "model": model, "options": {**FIELDS["options"], "train": train}}
    )
    assert other.configuration_id == CONFIGURATION.configuration_id
    assert dataclasses.replace(CONFIGURATION, plant=None).configuration_id == other.configuration_id


def test_tuples_and_lists_are_the_same():
    options = {**FIELDS["options"], "augmentation": {"crop_scale": (0.5, 1.0)}}
    other = dataclasses.replace(CONFIGURATION, options=options, vary=[*PURPOSES])  # type: ignore[arg-type]
    assert other.configuration_id == CONFIGURATION.configuration_id


@pytest.mark.parametrize(
    "change",
    [
        {"regimen": "contrastive"},
        {"numerics_version": 2},
        {"dataset": {**FIELDS["dataset"], "name": "mnist"}},
        {"dataset": {**FIELDS["dataset"], "digest": "ab13"}},
        {"dataset": {**FIELDS["dataset"], "data_seed": 1}},
        {"dataset": {**FIELDS["dataset"], "validation": "test"}},
        {"dataset": {**FIELDS["dataset"], "subset": 100}},
        {"model": {**FIELDS["model"], "width": 9}},
        {"model": {**FIELDS["model"], "dropout": 0.0}},
        {"options": {**FIELDS["options"], "train": {"lr": 0.1, "max_epochs": 4}}},
        {"options": {**FIELDS["options"], "train": {"lr": 0.10000000000000002, "max_epochs": 3}}},
        {"options": {**FIELDS["options"], "augmentation": {"crop_scale": [1.0, 0.5]}}},
        {"vary": ("weights",)},
        {"plant": {"noise_symmetric": {"rate": 0.1}}},
        {"dataset": {**FIELDS["dataset"], "part": {"ids": "0123456789abcdef"}}},
        {"dataset": {**FIELDS["dataset"], "part": {"counts": [3, 4]}}},
    ],
    ids=str,
)
def test_whatever_changes_numbers_changes_both_ids(change):
    other = dataclasses.replace(CONFIGURATION, **change)
    assert other.configuration_id != CONFIGURATION.configuration_id
    runs = [RunSpec(configuration=c, seed=0).run_id for c in (other, CONFIGURATION)]
    assert runs[0] != runs[1]


def test_every_field_of_a_configuration_is_part_of_its_identity():
    assert {f.name for f in dataclasses.fields(Configuration)} == {*FIELDS, "vary", "plant"}
    for name, value in FIELDS.items():
        change: Any = {"other": 1} if isinstance(value, dict) else "other"
        other = dataclasses.replace(CONFIGURATION, **{name: change})
        assert other.configuration_id != CONFIGURATION.configuration_id


def test_the_seed_matters_to_the_run_alone():
    runs = [RunSpec(configuration=CONFIGURATION, seed=s) for s in range(50)]
    assert len({r.run_id for r in runs}) == 50
    assert {r.configuration.configuration_id for r in runs} == {CONFIGURATION.configuration_id}
    assert CONFIGURATION.configuration_id not in {r.run_id for r in runs}


def test_ids_are_16_hex_digits():
    assert len(identity({})) == 16
    assert int(identity({}), 16) >= 0


def test_a_number_that_is_no_json_has_no_identity():
    with pytest.raises(ValueError, match=r"Out of range float"):
        identity({"lr": float("nan")})


@pytest.mark.parametrize("part", [None, {"counts": [3, 4]}])
@pytest.mark.parametrize("plant", [None, {"noise_symmetric": {"rate": 0.1}}])
def test_configurations_and_packs_survive_the_way_through_text(plant, part):
    dataset = FIELDS["dataset"] if part is None else {**FIELDS["dataset"], "part": part}
    configuration = Configuration(**{**FIELDS, "dataset": dataset}, plant=plant, vary=("order",))
    assert Configuration.from_json(canonical_json(configuration)) == configuration
    pack = Pack(configuration=configuration, seeds=(3, 1), parent_run="f00")
    again = Pack.from_json(pack.to_json())
    assert again == pack
    assert again.configuration.configuration_id == configuration.configuration_id
    assert json.loads(pack.to_json())["seeds"] == [3, 1]


@pytest.mark.parametrize("state", ["done", "running", "failed", "missing"])
def test_a_cell_is_as_far_as_its_trace(state):
    run = RunSpec(configuration=CONFIGURATION, seed=0)
    assert Cell(run=run, trace=Trace(tracking_run="r", state=state)).state == state
    assert Cell(run=run, trace=None).state == "missing"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -0.5])
@pytest.mark.parametrize("name", ["cpu", "gpu", "checkpoint_seconds", "spool_gib"])
def test_resources_are_finite_amounts(name, number):
    with pytest.raises(ValueError, match=f"^{name}: expected 0 or more; got {number}$"):
        Resources(**{name: number})
