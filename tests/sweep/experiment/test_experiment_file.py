"""From experiment files and overrides to a checked sweep, and every mistake in one line."""

import dataclasses
import json
from itertools import islice
from pathlib import Path

import pytest

from hardness.data import datasets
from hardness.data.options import DatasetOptions
from hardness.models.options import ModelOptions
from hardness.planting.options import (
    KINDS,
    Drawn,
    HumanLabels,
    ImageBlur,
    NoiseAsymmetric,
    OodFar,
    Planting,
    RareSubgroup,
)
from hardness.seeding import PURPOSES, Streams
from hardness.training import REGIMENS
from sweep.errors import Mistake
from sweep.execution import driver
from sweep.experiment.check import check, objectives
from sweep.experiment.needs import Keep
from sweep.experiment.sections import ExperimentError, options, with_parameters
from sweep.experiment.seed_list import seeds
from sweep.experiment.spec import Parameter, Resources
from sweep.experiment.yaml_file import read

ROOT = Path(__file__).parents[3]
SHIPPED = sorted((ROOT / "experiments").rglob("*.yaml"))
SMALLEST = """
name: digits
dataset: {name: digits}
regimens: {supervised: {train: {lr: 0.1}}}
"""
# The example of the design document.
EXAMPLE = """
name: cifar10-noise
dataset: {name: cifar10, root: ~/data, subset: 10000, data_seed: 0}
plant: {noise_symmetric: {rate: 0.1}}
validation: test
model: {name: resnet18_cifar}
regimens:
  supervised:
    train: {max_epochs: 30, batch_size: 512, optimizer: sgd}
    parameters:
      train.lr: {values: [0.05, 0.1]}
      train.weight_decay: {min: 1e-5, max: 1e-3, distribution: log_uniform}
    metric: {name: val_accuracy, goal: maximize}
  contrastive:
    objective: barlow_twins
    train: {max_epochs: 60, lr: 0.5}
    metric: {name: val_loss, goal: minimize}
method: bayes
max_configurations: 20
seeds: 10
vary: all
metrics: all
keep: {embedding: last, logits: last}
plugins: [my_metrics.py]
resources: {cpu: 2, gpu: 0.25, seeds_per_pack: 4, max_failures: 3}
storage_path: results
tracking_uri: http://tracker:5000
"""


@pytest.fixture
def parse(tmp_path):
    """Read and check a text with overrides; gives the spec."""

    def parsed(text=SMALLEST, *overrides):
        path = tmp_path / "digits.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return check(read(path, overrides), "digits.yaml")

    return parsed


def test_the_example_of_the_design_means_what_it_says(parse, tmp_path):
    (tmp_path / "my_metrics.py").write_text("answer = 42\n")
    spec = parse(EXAMPLE)
    assert spec.name == "cifar10-noise"
    assert spec.dataset == DatasetOptions(
        name="cifar10", root=str(Path.home() / "data"), subset=10_000, data_seed=0
    )
    assert spec.plant == Planting(noise_symmetric=Drawn(rate=0.1))
    assert spec.validation == "test"
    assert spec.model == ModelOptions(name="resnet18_cifar")
    supervised, contrastive = spec.regimens.values()
    assert supervised.parameters == {
        "train.lr": Parameter(values=(0.05, 0.1)),
        "train.weight_decay": Parameter(min=1e-5, max=1e-3, distribution="log_uniform"),
    }
    assert (supervised.metric.name, supervised.metric.goal) == ("val_accuracy", "maximize")
    assert (contrastive.metric.name, contrastive.metric.goal) == ("val_loss", "minimize")
    assert contrastive.options["objective"] == "barlow_twins"
    assert (spec.method, spec.max_configurations) == ("bayes", 20)
    assert spec.seeds == tuple(range(10))
    assert spec.vary == PURPOSES
    assert spec.metrics == ("all",)
    assert spec.keep == Keep(embedding="last", logits="last")
    assert [Path(p.path) for p in spec.plugins] == [tmp_path / "my_metrics.py"]
    assert spec.resources == Resources(cpu=2, gpu=0.25, seeds_per_pack=4, max_failures=3)
    assert spec.storage_path == str(Path.cwd() / "results")
    assert spec.tracking_uri == "http://tracker:5000"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: str(p.relative_to(ROOT / "experiments")))
def test_every_shipped_experiment_is_named_after_its_file_and_parses(path):
    spec = check(read(path), path.name)
    folder = path.parent.relative_to(ROOT / "experiments")
    assert spec.name == "-".join([*folder.parts, path.stem])
    assert "supervised" in spec.regimens
    assert {*spec.regimens} <= {*REGIMENS}


def test_the_smallest_file_gets_sensible_defaults(parse):
    spec = parse()
    assert spec.seeds == (0, 1, 2, 3, 4)
    assert (spec.method, spec.max_configurations, spec.search_seed) == ("grid", None, 0)
    assert (spec.metrics, spec.vary) == (("all",), PURPOSES)
    assert spec.validation is None
    assert spec.model == ModelOptions()
    assert spec.keep == Keep()
    assert spec.resources == Resources(cpu=1, gpu=0, seeds_per_pack=1)
    assert spec.storage_path == str(Path.cwd() / "sweeps")
    assert (spec.tracking_uri, spec.plugins, spec.dataset_digest) == (None, (), None)
    assert spec.regimens["supervised"].parameters == {}


def test_score_epochs_are_taken_as_they_are_written(parse):
    assert parse(SMALLEST).score_epochs is None
    assert parse(SMALLEST, "score_epochs=").score_epochs is None
    assert parse(SMALLEST, "score_epochs=[0, -1]").score_epochs == (0, -1)
    # A regimen without passes has nothing to make in them.
    short = "regimens.autoencoder={train: {max_epochs: 1}}"
    assert parse(SMALLEST, "score_epochs=[4]", short).score_epochs == (4,)


def test_score_epochs_need_be_in_the_runs_that_a_search_proposes_alone(parse):
    """Not in one of the length that the search replaces; other parameters change no length."""
    search = f"{SEARCH}={{train.max_epochs: {{values: [9, 12]}}, train.lr: {{values: [1, 2]}}}}"
    spec = parse(SMALLEST, f"{TRAIN}.max_epochs=3", search, "score_epochs=[8, -9]")
    assert spec.score_epochs == (8, -9)


def test_sections_with_everything_commented_out_mean_their_defaults(parse):
    text = "name: a\ndataset: {name: digits}\nregimens:\n  supervised:\n"
    emptied = "model:\nkeep:\nresources:\nplugins:\nvalidation:\ntracking_uri:\n"
    assert parse(text + emptied) == parse(text)


@pytest.mark.parametrize(("written", "number"), [("1e-5", 1e-5), ("1e6", 1e6), ("2", 2.0)])
def test_numbers_may_be_written_with_an_exponent(parse, written, number):
    text = SMALLEST.replace("0.1", written)
    chosen = options(REGIMENS["supervised"].options, parse(text).regimens["supervised"].options)
    assert chosen.train.lr == number


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("3", (0, 1, 2)),
        ("'3'", (0, 1, 2)),
        ("0:3", (0, 1, 2)),
        ("7:9", (7, 8)),
        ("[5, 2]", (5, 2)),
    ],
)
def test_seeds_are_a_count_a_range_or_a_list(parse, written, expected):
    assert parse(SMALLEST, f"seeds={written}").seeds == expected


@pytest.mark.parametrize("written", ["all", "[all]", "[aum, all]"])
def test_all_metrics_may_be_asked_for_in_a_list(parse, written):
    assert parse(SMALLEST, f"metrics={written}").metrics == ("all",)


def test_names_may_stand_alone_and_are_kept_once(parse):
    assert parse(SMALLEST, "metrics=aum").metrics == ("aum",)
    assert parse(SMALLEST, "metrics=[el2n, aum, el2n]").metrics == ("el2n", "aum")
    # The order of streams is part of the identity, so it is always the same.
    assert parse(SMALLEST, "vary=[order, weights]").vary == ("weights", "order")


def test_overrides_reach_every_depth(parse):
    spec = parse(
        SMALLEST,
        "seeds=0:8",
        "dataset.subset=100",
        "regimens.supervised.train.lr=0.2",
        "regimens.supervised.parameters.train.weight_decay.values=[0, 1e-4]",
        "regimens.contrastive.parameters.model.width={values: [4, 8]}",
        "resources.gpu=0.5",
    )
    assert spec.seeds == tuple(range(8))
    assert spec.dataset.subset == 100
    assert spec.regimens["supervised"].options["train"] == {"lr": 0.2}
    assert spec.regimens["supervised"].parameters == {
        "train.weight_decay": Parameter(values=(0, 1e-4))
    }
    assert spec.regimens["contrastive"].parameters == {"model.width": Parameter(values=(4, 8))}
    assert spec.resources.gpu == 0.5


def test_the_last_override_of_a_key_counts(parse):
    assert parse(SMALLEST, "seeds=2", "seeds=3").seeds == (0, 1, 2)


def test_an_override_changes_one_use_of_an_alias_only(parse):
    spec = parse(
        "name: a\ndataset: {name: digits}\nregimens:\n"
        "  supervised: {train: &t {lr: 0.1, max_epochs: 2}}\n  contrastive: {train: *t}\n",
        "regimens.supervised.train.lr=0.4",
    )
    assert spec.regimens["supervised"].options["train"]["lr"] == 0.4
    assert spec.regimens["contrastive"].options["train"]["lr"] == 0.1


def test_plugins_are_found_beside_the_file_wherever_one_stands(parse, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (plugin,) = parse(SMALLEST, "plugins=[mine.py]").plugins
    assert plugin.path == str(tmp_path / "mine.py")


def test_a_byte_order_mark_is_no_part_of_the_first_key(parse):
    assert parse(b"\xef\xbb\xbf" + SMALLEST.strip().encode()).name == "digits"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: str(p.relative_to(ROOT / "experiments")))
def test_a_stored_experiment_reads_back_as_the_same_sweep(path, tmp_path, monkeypatch):
    content = read(path, ["seeds=2:4", "storage_path=here"])
    spec = check(content, path.name)
    stored = json.dumps({**driver.resolved(content, spec), "dataset_digest": "0" * 64})
    monkeypatch.chdir(tmp_path)
    again = check(json.loads(stored), spec.name)
    assert again == dataclasses.replace(spec, dataset_digest="0" * 64)


@pytest.mark.parametrize("key", ["arms", "dataset_digest", "dataset_size"])
def test_what_a_sweep_s_run_keeps_is_no_key_of_a_file(parse, key):
    with pytest.raises(
        ExperimentError, match=rf"unknown key '{key}'; known: artifacts, base, dataset, "
    ):
        parse(f"{SMALLEST}{key}: 1\n")


class TestBase:
    def test_sections_are_joined_values_replaced_and_empty_keys_dropped(self, tmp_path):
        (tmp_path / "first.yaml").write_text(
            "name: first\ndataset: {name: digits, subset: 100}\nseeds: [1, 2]\nmetrics: [aum]\n"
            "plant: {noise_pair: {rate: 0.1}}\n"
            "regimens: {supervised: {train: {lr: 0.1, max_epochs: 3}}, contrastive: {}}\n"
        )
        (tmp_path / "second.yaml").write_text("base: first.yaml\nname: second\nseeds: [3]\n")
        (tmp_path / "inner").mkdir()
        third = tmp_path / "inner" / "third.yaml"
        third.write_text(
            "base: ../second.yaml\nname: third\nmetrics:\n"
            "plant: {noise_pair: , noise_symmetric: {rate: 0.2}}\n"
            "regimens: {contrastive: , supervised: {train: {lr: 0.5}}, autoencoder: }\n"
        )
        assert read(third, ["dataset.subset=50"]) == {
            "name": "third",
            "dataset": {"name": "digits", "subset": 50},
            "seeds": [3],
            "plant": {"noise_symmetric": {"rate": 0.2}},
            "regimens": {
                "supervised": {"train": {"lr": 0.5, "max_epochs": 3}},
                "autoencoder": None,
            },
            "plugins": [],
        }

    def test_plugins_lie_beside_the_file_that_names_them(self, tmp_path):
        (tmp_path / "inner").mkdir()
        (tmp_path / "inner" / "first.yaml").write_text(f"{SMALLEST}plugins: [mine.py]\n")
        (tmp_path / "second.yaml").write_text("base: inner/first.yaml\nname: second\n")
        assert read(tmp_path / "second.yaml")["plugins"] == [str(tmp_path / "inner" / "mine.py")]

    @pytest.mark.parametrize(
        ("base", "said"),
        [
            ("[a.yaml]", "digits.yaml: base: expected a file; got ['a.yaml']"),
            ("none.yaml", "none.yaml: expected an experiment file; got no file"),
            (
                "digits.yaml",
                "digits.yaml: base: expected files without a circle; got a circle",
            ),
            (
                "other.yaml",
                "other.yaml: base: expected files without a circle; got a circle",
            ),
        ],
    )
    def test_a_wrong_base_is_told_in_one_line(self, parse, tmp_path, base, said):
        (tmp_path / "other.yaml").write_text("base: digits.yaml\n")
        with pytest.raises(ExperimentError) as caught:
            parse(f"base: {base}\n{SMALLEST}")
        assert str(caught.value).replace(f"{tmp_path}/", "") == said


def test_a_plan_is_read_with_all_that_belongs_to_it(parse, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    plant = """
plant:
  noise_asymmetric: {rate: 0.2, classes: {cat: dog, "7": 1}, seed: 3}
  noise_image_blur: {rate: 0.05, sigma: 2}
  rare_subgroup: {groups: {animal: [cat, 5], vehicle: [ship]}}
  human_labels: {columns: [random_label1, random_label2]}
  ood_far: {rate: 0.1, dataset: {name: mnist, root: numbers}}
  overlap: true
"""
    far = DatasetOptions(name="mnist", root=str(tmp_path / "numbers"))
    assert parse(SMALLEST + plant).plant == Planting(
        noise_asymmetric=NoiseAsymmetric(rate=0.2, classes={"cat": "dog", "7": 1}, seed=3),
        noise_image_blur=ImageBlur(rate=0.05, sigma=2.0),
        rare_subgroup=RareSubgroup(groups={"animal": ("cat", 5), "vehicle": ("ship",)}),
        human_labels=HumanLabels(columns=("random_label1", "random_label2")),
        ood_far=OodFar(rate=0.1, dataset=far),
        overlap=True,
    )


@pytest.mark.parametrize("override", ["plant=", "plant={}"])
def test_an_empty_plan_is_none(parse, override):
    assert parse(SMALLEST, "plant.noise_pair.rate=0.5", override) == parse()


def test_a_stored_plan_reads_back_the_same_from_anywhere(parse, tmp_path, monkeypatch):
    far = "plant.ood_far={rate: 0.1, seed: 2, dataset: {name: mnist, root: numbers, subset: 9}}"
    path = tmp_path / "digits.yaml"
    path.write_text(SMALLEST)
    content = read(path, [far, "plant.noise_pair.rate=0.5"])
    spec = check(content, path.name)
    stored = json.dumps(driver.resolved(content, spec))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert check(json.loads(stored), spec.name).plant == spec.plant


def test_options_of_a_search_land_in_regimen_and_model():
    chosen, model = with_parameters(
        "supervised",
        {"train": {"lr": 0.1, "max_epochs": 3}},
        ModelOptions(name="mlp"),
        {"train.lr": 0.4, "model.width": 8, "augmentation.pad": 2},
    )
    assert (chosen.train.lr, chosen.train.max_epochs, chosen.augmentation.pad) == (0.4, 3, 2)
    assert model == ModelOptions(name="mlp", width=8)


def test_a_search_may_optimise_what_a_regimen_really_records():
    dataset = datasets.load(DatasetOptions(name="digits", subset=60), 0.2)
    for name, regimen in REGIMENS.items():
        chosen = options(regimen.options, {"train": {"max_epochs": 1, "batch_size": 32}})
        model = ModelOptions(name="mlp", width=4)
        records = regimen.train(dataset, model, chosen, Streams(seed=0))
        summary = list(islice(records, 2))[-1].summary
        assert {*objectives(name)} <= {*summary}
        assert regimen.objective in objectives(name)
    assert "val_accuracy" not in objectives("contrastive")


def test_the_goal_follows_the_objective(parse):
    spec = parse(SMALLEST, "regimens.supervised.metric.name=val_loss")
    assert spec.regimens["supervised"].metric.goal == "minimize"
    spec = parse(SMALLEST, "regimens.supervised.metric={name: val_loss, goal: maximize}")
    assert spec.regimens["supervised"].metric.goal == "maximize"


TRAIN = "regimens.supervised.train"
SEARCH = "regimens.supervised.parameters"
EVERY_KEY = (
    "known: artifacts, dataset, keep, max_configurations, method, metrics, model, name, plant, "
    "plugins, regimens, resources, score_epochs, search_seed, seeds, storage_path, tracking_uri, "
    "validation, vary"
)
TRAIN_KEYS = (
    "known: batch_size, compile, deterministic, lr, max_epochs, momentum, optimizer, precision, "
    "schedule, threads, weight_decay"
)
SEEDS = "seeds: expected a count, a list such as [0, 1, 2] or a range such as 0:10; got"
NAME = "name: expected up to 100 letters, digits, '.', '_' and '-', a letter or digit first; got"
STREAMS = "vary: expected random streams out of weights, order, augmentation, dropout, views; got"


# Overrides, separated by " & ", and what is said after the file's name; "…" leaves off the rest.
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        # Keys that nobody knows, at every level.
        ("epochs=3", f"unknown key 'epochs'; {EVERY_KEY}"),
        (
            "dataset.size=3",
            (
                "unknown key 'size' in 'dataset'; known: cache, data_seed, "
                "decode_threads, download, image_size, label_column, name, root, subset"
            ),
        ),
        (
            "model.depth=3",
            "unknown key 'depth' in 'model'; known: dropout, name, pretrained, width",
        ),
        (
            "regimens.suprvised={}",
            (
                "unknown key 'suprvised' in 'regimens'; "
                "known: autoencoder, contrastive, cross_fit, second_split, supervised"
            ),
        ),
        (
            "regimens.supervised.objective=simclr",
            (
                "unknown key 'objective' in "
                "'regimens.supervised'; known: augmentation, metric, parameters, train"
            ),
        ),
        (f"{TRAIN}.epoch=3", f"unknown key 'epoch' in '{TRAIN}'; {TRAIN_KEYS}"),
        (
            "regimens.supervised.augmentation.rotate=3",
            "unknown key 'rotate' in 'regimens.supervised.augmentation'; known: brightness, …",
        ),
        (
            "regimens.supervised.metric.mode=max",
            "unknown key 'mode' in 'regimens.supervised.metric'; known: goal, name",
        ),
        (
            f"{SEARCH}.train.lr={{value: [1]}}",
            f"unknown key 'value' in '{SEARCH}.train.lr'; known: distribution, max, min, values",
        ),
        ("validation={share: 0.1}", "unknown key 'share' in 'validation'; known: split"),
        (
            "plant.noise_symetric.rate=0.1",
            "unknown key 'noise_symetric' in 'plant'; known: atypical, duplicate, human_labels, …",
        ),
        (
            "plant.noise_symmetric.share=0.1",
            "unknown key 'share' in 'plant.noise_symmetric'; known: rate, seed",
        ),
        ("plant=0.1", "plant: expected keys and values; got 0.1"),
        ("plant.overlap=true", f"plant: expected at least one of {', '.join(KINDS)}; got none"),
        ("plant.noise_pair=", "plant.noise_pair: expected keys and values; got nothing"),
        ("plant.noise_pair={}", "missing key 'rate' in 'plant.noise_pair'"),
        ("plant.noise_pair=0.1", "plant.noise_pair: expected keys and values; got 0.1"),
        (
            "plant.noise_pair.rate=10",
            "plant.noise_pair.rate: expected a share above 0, up to 1; got 10.0",
        ),
        (
            "plant.noise_pair={rate: 0.1, seed: -1}",
            "plant.noise_pair.seed: expected 0 or more; got -1",
        ),
        (
            "plant.noise_asymmetric={rate: 0.1, classes: {cat: [dog]}}",
            "plant.noise_asymmetric.classes.cat: expected text or a whole number; got ['dog']",
        ),
        (
            "plant.rare_subgroup.groups={a: [0, 1.5]}",
            "plant.rare_subgroup.groups.a.1: expected text or a whole number; got 1.5",
        ),
        (
            "plant.ood_near={rate: 0.1, shift: blur}",
            "plant.ood_near.shift: expected 'invert' or 'rotate'; got 'blur'",
        ),
        ("plant.ood_far={rate: 0.1}", "missing key 'dataset' in 'plant.ood_far'"),
        (
            "plant.ood_far={rate: 0.1, dataset: {name: svhn}}",
            "plant.ood_far.dataset: unknown dataset 'svhn'; known: digits, mnist, …",
        ),
        (
            "plant={rare_subgroup: {}, long_tail: {}}",
            "plant: expected rare_subgroup or long_tail; got both",
        ),
        ("keep.weights=last", "unknown key 'weights' in 'keep'; known: embedding, logits"),
        (
            "resources.gpus=1",
            (
                "unknown key 'gpus' in 'resources'; known: checkpoint_seconds, cpu, "
                "gpu, max_failures, seeds_per_pack, spool_gib"
            ),
        ),
        # Names that nobody knows.
        ("metrics=[aum, aun]", "metrics: unknown metric 'aun'; known: all, cartography_…"),
        ("dataset.name=cifar", "dataset: unknown dataset 'cifar'; known: digits, mnist, …"),
        ("model.name=resnet", "model: unknown model 'resnet'; known: mlp, small_cnn, …"),
        (f"{TRAIN}.optimizer=adam", f"{TRAIN}.optimizer: expected 'sgd' or 'adamw'; got 'adam'"),
        (
            f"{TRAIN}.schedule=linear",
            f"{TRAIN}.schedule: expected 'cosine', 'one_cycle' or 'constant'; got 'linear'",
        ),
        (
            "regimens={contrastive: {objective: moco}}",
            ("regimens.contrastive.objective: expected 'simclr' or 'barlow_twins'; got 'moco'"),
        ),
        ("method=hyperband", "method: expected 'grid', 'random' or 'bayes'; got 'hyperband'"),
        ("keep.embedding=all", "keep.embedding: expected 'last' or 'none'; got 'all'"),
        (
            "regimens.supervised.metric.name=f1",
            (
                "regimens.supervised.metric.name: unknown "
                "objective 'f1'; known: val_accuracy, val_accuracy_top5, val_loss, "
                "train_accuracy, train_loss"
            ),
        ),
        (
            "regimens={contrastive: {metric: {name: val_accuracy}}}",
            (
                "regimens.contrastive.metric.name: unknown objective 'val_accuracy'; "
                "known: val_loss, train_loss"
            ),
        ),
        ("vary=[wieghts]", f"{STREAMS} 'wieghts'"),
        # A metric that nothing in the file can feed.
        (
            "metrics=[aum] & regimens={contrastive: }",
            (
                "metrics: 'aum' needs label_margin; "
                "expected a regimen that records it; got contrastive"
            ),
        ),
        # Types.
        (f"{TRAIN}.lr=fast", f"{TRAIN}.lr: expected a number; got 'fast'"),
        (f"{TRAIN}.lr=true", f"{TRAIN}.lr: expected a number; got true"),
        (f"{TRAIN}.lr=[0.1]", f"{TRAIN}.lr: expected a number; got [0.1]"),
        (f"{TRAIN}.max_epochs=true", f"{TRAIN}.max_epochs: expected a whole number; got true"),
        (f"{TRAIN}.max_epochs=1.5", f"{TRAIN}.max_epochs: expected a whole number; got 1.5"),
        (f"{TRAIN}.max_epochs='3'", f"{TRAIN}.max_epochs: expected a whole number; got '3'"),
        (f"{TRAIN}.max_epochs=null", f"{TRAIN}.max_epochs: expected a whole number; got nothing"),
        (f"{TRAIN}.compile=1", f"{TRAIN}.compile: expected true or false; got 1"),
        (f"{TRAIN}=[1]", f"{TRAIN}: expected keys and values; got [1]"),
        (f"{TRAIN}=", f"{TRAIN}: expected keys and values; got nothing"),
        ("dataset=digits", "dataset: expected keys and values; got 'digits'"),
        ("dataset=", "dataset: expected keys and values; got nothing"),
        ("dataset.download=yes", "dataset.download: expected true or false; got 'yes'"),
        ("model=[mlp]", "model: expected keys and values; got ['mlp']"),
        ("regimens=[supervised]", "regimens: expected keys and values; got ['supervised']"),
        ("regimens.supervised=sgd", "regimens.supervised: expected keys and values; got 'sgd'"),
        (
            "regimens.supervised.metric=val_loss",
            "regimens.supervised.metric: expected keys and values; got 'val_loss'",
        ),
        (f"{SEARCH}=[1]", f"{SEARCH}: expected keys and values; got [1]"),
        ("metrics=3", "metrics: expected all or a list of names; got 3"),
        ("metrics=[]", "metrics: expected all or a list of names; got []"),
        ("plugins=my.py", "plugins: expected a list; got 'my.py'"),
        ("plugins=[1]", "plugins.0: expected text; got 1"),
        ("storage_path=3", "storage_path: expected text; got 3"),
        ("tracking_uri=5000", "tracking_uri: expected text; got 5000"),
        ("name=3", "name: expected text; got 3"),
        (
            "name=2024-01-01",
            (
                "name: expected text, a number, true or false; "
                "got date '2024-01-01'; put it in quotes to make it text"
            ),
        ),
        ("model.width={1: 2}", "model.width: expected text for a key; got 1"),
        # Numbers out of range.
        (f"{TRAIN}.lr=-1", f"{TRAIN}.lr: expected a positive number; got -1.0"),
        (f"{TRAIN}.lr=0", f"{TRAIN}.lr: expected a positive number; got 0.0"),
        (f"{TRAIN}.lr=.nan", f"{TRAIN}.lr: expected a finite number; got nan"),
        (f"{TRAIN}.lr=-.inf", f"{TRAIN}.lr: expected a finite number; got -inf"),
        (
            "regimens={contrastive: {temperature: .inf}}",
            "regimens.contrastive.temperature: expected a finite number; got inf",
        ),
        (f"{TRAIN}.max_epochs=0", f"{TRAIN}.max_epochs: expected at least 1; got 0"),
        ("dataset.subset=0", "dataset.subset: expected at least 1; got 0"),
        ("max_configurations=0", "max_configurations: expected at least 1; got 0"),
        ("search_seed=-1", "search_seed: expected 0 or more; got -1"),
        ("resources={cpu: 0, gpu: 0}", "resources: expected some cpu or gpu; got 0 of both"),
        ("resources.cpu=-1", "resources.cpu: expected 0 or more; got -1.0"),
        (
            "resources.gpu=1.5",
            "resources.gpu: expected a share up to 1 or a whole number; got 1.5",
        ),
        ("resources.seeds_per_pack=0", "resources.seeds_per_pack: expected at least 1; got 0"),
        ("resources.max_failures=-1", "resources.max_failures: expected 0 or more; got -1"),
        ("resources.spool_gib=-1", "resources.spool_gib: expected 0 or more; got -1.0"),
        (
            "regimens.supervised.augmentation.crop_scale=[0.2]",
            "regimens.supervised.augmentation.crop_scale: expected more items; got [0.2]",
        ),
        (
            "regimens.supervised.augmentation.crop_scale=[0.1, 0.2, 0.3]",
            (
                "regimens.supervised."
                "augmentation.crop_scale: expected at most 2 items; got [0.1, 0.2, 0.3]"
            ),
        ),
        # Options that do not go together.
        (
            "dataset.label_column=y",
            "dataset.label_column: expected only with parquet; got with digits",
        ),
        (
            "model={name: resnet18_cifar, width: 3}",
            "model.width: expected at least 1, for mlp or small_cnn; got 3 for resnet18_cifar",
        ),
        # Seeds.
        ("seeds=[]", "seeds: expected at least one seed; got []"),
        ("seeds=0", "seeds: expected at least one seed; got 0"),
        ("seeds=5:2", "seeds: expected at least one seed; got '5:2'"),
        ("seeds=[0, 0]", "seeds: expected different seeds of 0 or more; got [0, 0]"),
        ("seeds=[0, -1]", "seeds: expected different seeds of 0 or more; got [0, -1]"),
        ("seeds=0:1000000000", "seeds: expected at most 100000 seeds; got '0:1000000000'"),
        ("seeds=-3", f"{SEEDS} -3"),
        ("seeds=0-9", f"{SEEDS} '0-9'"),
        ("seeds=1.5", f"{SEEDS} 1.5"),
        ("seeds=true", f"{SEEDS} true"),
        ("seeds=[0, true]", f"{SEEDS} [0, True]"),
        ("seeds=", f"{SEEDS} nothing"),
        ("seeds={from: 0}", "unknown key 'from' in 'seeds'; known: max, min, until"),
        ("vary=[]", "vary: expected all or a list of names; got []"),
        # Epochs of the scoring passes.
        ("score_epochs=[]", "score_epochs: expected at least one epoch; got none"),
        ("score_epochs=-1", "score_epochs: expected a list; got -1"),
        ("score_epochs=last", "score_epochs: expected a list; got 'last'"),
        ("score_epochs=[1.5]", "score_epochs.0: expected a whole number; got 1.5"),
        ("score_epochs=[0, true]", "score_epochs.1: expected a whole number; got true"),
        (
            f"score_epochs=[0, 3] & {TRAIN}.max_epochs=3",
            "regimens.supervised: score_epochs: expected epochs from -3 to 2; got 3",
        ),
        (
            f"score_epochs=[-4] & {TRAIN}.max_epochs=3",
            "regimens.supervised: score_epochs: expected epochs from -3 to 2; got -4",
        ),
        (
            (
                "score_epochs=[5] & regimens.cross_fit={train: {max_epochs: 4}} & "
                f"{TRAIN}.max_epochs=9"
            ),
            "regimens.cross_fit: score_epochs: expected epochs from -4 to 3; got 5",
        ),
        # The shortest of the runs that are searched is short of that epoch.
        (
            (
                f"score_epochs=[5] & {TRAIN}.max_epochs=9 & "
                f"{SEARCH}.train.max_epochs={{values: [9, 4]}}"
            ),
            "regimens.supervised: score_epochs: expected epochs from -4 to 3; got 5",
        ),
        (
            (
                f"score_epochs=[5] & {TRAIN}.max_epochs=9 & method=random & "
                f"{SEARCH}.train.max_epochs={{min: 4, max: 20, distribution: int_uniform}}"
            ),
            "regimens.supervised: score_epochs: expected epochs from -4 to 3; got 5",
        ),
        # Validation.
        ("validation=train", "validation: expected test or {split: 0.1}; got 'train'"),
        ("validation=0", "validation: expected test or {split: 0.1}; got 0"),
        ("validation=1.5", "validation: expected test or {split: 0.1}; got 1.5"),
        ("validation=true", "validation: expected test or {split: 0.1}; got true"),
        ("validation={}", "missing key 'split' in 'validation'"),
        ("validation={split: 0}", "validation.split: expected a share between 0 and 1; got 0.0"),
        ("validation={split: 1}", "validation.split: expected a share between 0 and 1; got 1.0"),
        ("validation={split: half}", "validation.split: expected a number; got 'half'"),
        # Searches.
        (
            f"{SEARCH}.train.lr={{min: 0.1, max: 1}}",
            (
                f"{SEARCH}.train.lr: expected values, since "
                "method is grid; got min and max. Give values, or method: random or bayes"
            ),
        ),
        (
            f"{SEARCH}.train.lr={{min: 0, max: 1, distribution: log_uniform}} & method=bayes",
            f"{SEARCH}.train.lr.min: expected more than 0 for log_uniform; got 0.0",
        ),
        (
            f"{SEARCH}.train.lr={{min: 1, max: 0.1}} & method=random",
            f"{SEARCH}.train.lr: expected min below max; got min: 1.0, max: 0.1",
        ),
        (
            f"{SEARCH}.train.lr={{min: 1, max: .inf}} & method=random",
            f"{SEARCH}.train.lr.max: expected a finite number; got inf",
        ),
        (
            f"{SEARCH}.train.lr={{min: 1}} & method=random",
            f"{SEARCH}.train.lr: expected values, or both min and max; got only one of them",
        ),
        (
            f"{SEARCH}.train.lr={{min: 0.1, max: 1, distribution: normal}} & method=bayes",
            (
                f"{SEARCH}.train.lr.distribution: "
                "expected 'uniform', 'log_uniform' or 'int_uniform'; got 'normal'"
            ),
        ),
        (
            (
                f"{SEARCH}.train.batch_size={{min: 1.5, max: 9, distribution: int_uniform}} "
                "& method=random"
            ),
            (
                f"{SEARCH}.train.batch_size: expected whole numbers for int_uniform; "
                "got min: 1.5, max: 9.0"
            ),
        ),
        (
            f"{SEARCH}.train.batch_size={{min: 16, max: 64}} & method=bayes",
            (
                f"{SEARCH}.train.batch_size: expected a whole number; got 16.0; "
                "with distribution: int_uniform a search draws whole numbers"
            ),
        ),
        (
            f"{SEARCH}.train.lr={{}}",
            f"{SEARCH}.train.lr: expected values, or both min and max; got neither",
        ),
        (
            f"{SEARCH}.train.lr={{values: []}}",
            f"{SEARCH}.train.lr.values: expected at least one; got none",
        ),
        (
            f"{SEARCH}.train.lr={{values: [1], min: 1}}",
            f"{SEARCH}.train.lr: expected values alone; got min, max or distribution too",
        ),
        (
            f"{SEARCH}.train.lr={{values: 0.1}}",
            f"{SEARCH}.train.lr.values: expected a list; got 0.1",
        ),
        (
            f"{SEARCH}.train.lr=[0.1, 0.2]",
            (
                f"{SEARCH}.train.lr: expected {{values: [...]}} or "
                "{min: ..., max: ...}; got [0.1, 0.2]"
            ),
        ),
        (
            f"{SEARCH}={{train: {{lr: {{values: [0.1]}}}}}}",
            f"{SEARCH}.train: expected one dotted key, such as 'train.lr: ...'",
        ),
        (
            f"{SEARCH}.train.lrr={{values: [1]}}",
            f"{SEARCH}.train.lrr: unknown key 'lrr' in 'train'; {TRAIN_KEYS}",
        ),
        (
            f"{SEARCH}.lr={{values: [1]}}",
            f"{SEARCH}.lr: unknown key 'lr'; known: augmentation, train",
        ),
        (
            f"{SEARCH}.model={{values: [mlp]}}",
            f"{SEARCH}.model: expected a key of the model, such as model.width; got model",
        ),
        (
            f"{SEARCH}.model.depth={{values: [1]}}",
            (
                f"{SEARCH}.model.depth: unknown key 'depth' in 'model'; known: dropout, name, "
                "pretrained, width"
            ),
        ),
        (
            f"{SEARCH}.train.lr.x={{values: [1]}}",
            f"{SEARCH}.train.lr.x: expected keys in 'train.lr'; got 0.1",
        ),
        (
            f"{SEARCH}.train.lr={{values: [0.1, -1]}}",
            f"{SEARCH}.train.lr: expected a positive number; got -1.0",
        ),
        (
            f"{SEARCH}.train.lr={{values: [0.1, fast]}}",
            f"{SEARCH}.train.lr: expected a number; got 'fast'",
        ),
        # Names and places.
        ("name=../x", f"{NAME} '../x'"),
        ("name=''", f"{NAME} ''"),
        ("name=a b", f"{NAME} 'a b'"),
        (
            "regimens={}",
            (
                "regimens: expected at least one of supervised, second_split, cross_fit, "
                "contrastive, autoencoder; got none"
            ),
        ),
        (
            "storage_path=s3://bucket/x",
            (
                "storage_path: expected a folder, shared between nodes on "
                "a cluster; got 's3://bucket/x'"
            ),
        ),
        ("storage_path=''", "storage_path: expected a folder; got ''"),
        (
            "storage_path=~nobody-of-that-name/x",
            "storage_path: expected a path; got '~nobody-of-that-name/x': …",
        ),
        ("plugins=[none.py]", "plugins: expected a readable Python file; got '…"),
    ],
)
def test_a_wrong_value_is_told_in_one_line(parse, overrides, said):
    with pytest.raises(Mistake) as caught:
        parse(SMALLEST, *overrides.split(" & "))
    line = str(caught.value)
    if said.endswith("…"):
        assert line.startswith(f"digits.yaml: {said[:-1]}")
    else:
        assert line == f"digits.yaml: {said}"
    assert "\n" not in line
    assert "Input" not in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected keys and values; got nothing"),
        ("# a comment\n", "expected keys and values; got nothing"),
        ("digits\n", "expected keys and values; got 'digits'"),
        ("- name\n- dataset\n", "expected keys and values; got ['name', 'dataset']"),
        (
            "name: [a\n",
            "expected YAML; got an error in line 2: expected ',' or ']', but got '<stream end>'",
        ),
        (
            "name: a\n\tseeds: 3\n",
            "expected YAML; got an error in line 2: found character '\\t' that cannot …",
        ),
        (
            SMALLEST + "seeds: 3\nseeds: 4\n",
            'expected YAML; got an error in line 6: found duplicate key "seeds" with value "4" …',
        ),
        (
            SMALLEST + "---\nseeds: 3\n",
            "expected YAML; got an error in line 5: expected a single document …",
        ),
        (
            "name: !!python/name:os.system\n",
            "expected YAML; got an error in line 1: could not determine a …",
        ),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "expected a text file; got other bytes"),
        (b"name: \x00\x01\n", "expected YAML; got unacceptable character #x0000: …"),
        ("[" * 1000, "expected YAML; got values nested too deeply"),
        (
            SMALLEST + "keep: &a {embedding: *a}\n",
            "expected YAML; got an alias in line 5, inside the value that it repeats",
        ),
        (
            SMALLEST + f"keep: {'{a: ' * 25}1{'}' * 25}\n",
            "keep: expected at most 20 levels of keys; …",
        ),
        ("dataset: {name: digits}\nregimens: {supervised: }\n", "missing key 'name'"),
        ("name: digits\nregimens: {supervised: }\n", "missing key 'dataset'"),
        ("name: digits\ndataset: {name: digits}\n", "missing key 'regimens'"),
        (
            "name: digits\ndataset: {subset: 3}\nregimens: {supervised: }\n",
            "missing key 'name' in 'dataset'",
        ),
    ],
)
def test_a_text_that_is_no_experiment_is_told_in_one_line(parse, tmp_path, text, said):
    with pytest.raises(ExperimentError) as caught:
        parse(text)
    line = str(caught.value).replace(f"{tmp_path}/", "")
    assert line.startswith(f"digits.yaml: {said.removesuffix('…')}")
    assert line == f"digits.yaml: {said}" or said.endswith("…")
    assert "\n" not in line


def test_a_missing_file_and_a_folder_are_told_by_name(tmp_path):
    with pytest.raises(ExperimentError, match=r"none\.yaml: expected an experiment file; got no"):
        read(tmp_path / "none.yaml")
    with pytest.raises(ExperimentError, match=r"file that can be read; got: Is a directory$"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seeds", "expected key=value, such as seeds=0:8; got 'seeds'"),
        ("=3", "expected key=value, such as seeds=0:8; got '=3'"),
        (
            "seeds=[1",
            "'seeds=[1': expected YAML after '='; got an error in line 1: expected ',' or ']', …",
        ),
        (
            "seeds=[1\n2",
            "'seeds=[1\\n2': expected YAML after '='; got an error in line 2: expected ',' or …",
        ),
        ("dataset.name.x=1", "'dataset.name.x=1': expected keys in 'dataset.name'; got 'digits'"),
        (
            "regimens.supervised.train.lr.values=[1]",
            (
                "'regimens.supervised.train.lr.values=[1]': expected keys in "
                "'regimens.supervised.train.lr'; got 0.1"
            ),
        ),
    ],
)
def test_a_wrong_override_is_told_in_one_line(parse, override, said):
    with pytest.raises(ExperimentError) as caught:
        parse(SMALLEST, override)
    assert str(caught.value).startswith(said.removesuffix("…"))
    assert "\n" not in str(caught.value)


def test_seeds_of_the_command_line_are_told_likewise():
    with pytest.raises(ExperimentError, match=r"^f\.yaml: seeds: expected a count, a list such"):
        seeds("ten", "f.yaml: seeds")
