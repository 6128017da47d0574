"""Experiment files and folders from elsewhere: understood or refused in one line; none is run."""

import ast
import json
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardness.dynamics.recorder import Recorder
from sweep.errors import Mistake
from sweep.experiment.check import check
from sweep.experiment.sections import ExperimentError
from sweep.experiment.yaml_file import _yaml, read
from sweep.scoring.cache import merge, versions
from sweep.scoring.worker import to_bytes
from sweep.store.recorded_runs import gather
from tests.refusals import refused_at_most
from tests.strategies import few, spoiled

ROOT = Path(__file__).parents[3]
FILE = """
name: digits
dataset: {name: digits, subset: 100, data_seed: 3}
plant: {noise_symmetric: {rate: 0.1}}
validation: {split: 0.2}
model: {name: mlp, width: 4}
regimens:
  supervised: &first
    train: {max_epochs: 3, lr: 1e-2}
    parameters: {train.lr: {values: [0.05, 0.1]}}
  autoencoder: {train: {max_epochs: 2}}
seeds: 0:3
metrics: [aum, el2n]
resources: {cpu: 1, seeds_per_pack: 2}
"""


def understood(path):
    """Whether a file is an experiment; any other end than a line is an error of the test."""
    with refused_at_most(Mistake):
        check(read(path), path.name)
        return True
    return False


def test_a_spoiled_experiment_is_understood_or_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(FILE)
    assert understood(path)

    @settings(few, max_examples=100)
    @given(spoiled(FILE.encode()))
    def fuzz(content):
        path.write_bytes(content)
        understood(path)

    fuzz()


words = st.sampled_from(
    ["0", "-1", ".nan", ".inf", "1e400", "0x" + "f" * 5000, "9" * 5000, "2024-01-01", "!!binary x",
     "!!bool x", "!!int x", "&a [*a]", "*a", "~", "''", "'\\0'", '"\\0"', '"\\ud800"',
     '"\\Uffffffff"', "{}", "[]", "[[[]]]", "{a: {a: {a: 1}}}", "../../x", "<<", "? [a]", "!x y",
     "digits", "all", "true", "0:3", "1:60:60", "!!set {a}", "!!omap [a: 1]", "%", "@", "`"]
)  # fmt: skip
keys = st.sampled_from(
    ["name", "base", "dataset", "dataset.name", "dataset.subset", "dataset.root", "model.width",
     "plant", "plant.noise_symmetric.rate", "plant.ood_far", "validation", "regimens",
     "regimens.supervised", "regimens.supervised.train.lr", "regimens.supervised.parameters",
     "regimens.supervised.parameters.train.lr", "regimens.supervised.metric", "seeds", "method",
     "seeds.until", "metrics", "vary", "keep", "plugins", "resources", "resources.cpu",
     "storage_path", "tracking_uri", "score_epochs", "max_configurations", "search_seed", "<<"]
)  # fmt: skip


def test_any_value_of_any_key_is_understood_or_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(FILE)

    @settings(few, max_examples=120)
    @given(st.lists(st.tuples(keys, words), min_size=1, max_size=3))
    def fuzz(overrides):
        with refused_at_most(Mistake):
            check(read(path, [f"{key}={value}" for key, value in overrides]), path.name)

    fuzz()


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def test_what_a_store_says_of_a_sweep_is_understood_or_refused():
    stored = _yaml(FILE)

    @settings(few, max_examples=100)
    @given(st.sampled_from([*sorted(stored), "arms", "dataset_size", "dataset_digest"]), json_like)
    def fuzz(key, value):
        with refused_at_most(Mistake):
            check({**stored, key: value}, "digits")

    fuzz()


def bomb(levels, form):
    lines = [
        f"a{level}: &a{level} " + form.format(", ".join([f"*a{level - 1}"] * 10))
        for level in range(1, levels)
    ]
    return "\n".join(["a0: &a0 {k: 1}", *lines, ""])


@pytest.mark.parametrize(
    "text",
    [
        bomb(12, "[{}]"),
        bomb(12, "{{<<: [{}]}}"),
        bomb(12, "{{k: [{}]}}"),
        bomb(8, "[{}]") + "? *a7\n: 1\n",
        "a: &a [*a, *a, *a]\n",
        "a: &a {<<: *a}\n",
        "a: &a {b: *a, c: *a}\n",
        "[" * 100_000,
        "{a: " * 20_000,
        "- " * 20_000,
        "a: " + "x" * 10_000_000,
        "&a " * 10_000,
        "!" * 10_000,
        "? " * 10_000,
    ],
    ids=range(14),
)
def test_a_bomb_is_refused_at_once(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(FILE + text)
    started = time.process_time()
    assert not understood(path)
    path.write_text(text)
    assert not understood(path)
    assert time.process_time() - started < 5


def test_aliases_that_people_write_are_not_taken_for_a_bomb(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(FILE.replace("{train: {max_epochs: 2}}", "{train: {max_epochs: 2, lr: 0.1}}"))
    assert understood(path)
    path.write_text("common: &c {max_epochs: 2}\n" + FILE)
    with pytest.raises(ExperimentError, match="unknown key 'common'"):
        check(read(path), "x.yaml")
    path.write_text(
        FILE.replace("{max_epochs: 3, lr: 1e-2}", "&t {max_epochs: 3}").replace(
            "{max_epochs: 2}", "{<<: *t, lr: 0.1}"
        )
    )
    spec = check(read(path), "x.yaml")
    assert spec.regimens["autoencoder"].options["train"] == {"max_epochs": 3, "lr": 0.1}


def test_a_spoiled_folder_of_runs_is_gathered_or_refused(tmp_path):
    with Recorder(tmp_path / "runs" / "a", labels=[0, 1, 0], seed=0) as recorder:
        recorder.record(0, [0, 1, 2], torch.zeros(3, 2))
        recorder.end_epoch()
    files = {p: p.read_bytes() for p in (tmp_path / "runs").rglob("*") if p.is_file()}
    names = st.sampled_from(sorted(files))

    @settings(few, max_examples=100)
    @given(st.data())
    def fuzz(data):
        for path, content in files.items():
            path.write_bytes(content)
        path = data.draw(names)
        path.write_bytes(data.draw(spoiled(files[path])))
        with refused_at_most(Mistake):
            found = gather(tmp_path / "runs", tmp_path / "out")
            assert all(cell.state in ("done", "missing") for cell in found.cells)

    fuzz()
    assert not (tmp_path / "out").exists()


def test_a_link_out_of_a_folder_of_runs_is_neither_followed_nor_removed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    line = '{"guid": 1, "logits_epoch_0": [0.5, 1.0], "gold": 1}\n'
    (tmp_path / "glue").mkdir()
    (tmp_path / "glue" / "dynamics_epoch_0.jsonl").write_text(line)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "runs").symlink_to(tmp_path / "mine")
    with pytest.raises(Mistake, match="expected a folder whose runs/ is free"):
        gather(tmp_path / "glue", tmp_path / "out")
    (tmp_path / "mine" / ".imported").touch()
    with pytest.raises(Mistake, match="expected a folder whose runs/ is free"):
        gather(tmp_path / "glue", tmp_path / "out")
    assert (tmp_path / "mine" / "file").read_text() == "mine"


def test_a_spoiled_cache_of_scores_has_versions_or_none(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "x.parquet"
    table = pa.table({"aum": [1.0]}).replace_schema_metadata({"metric_versions": '{"aum": "1"}'})
    pq.write_table(table, path)
    assert versions(path) == {"aum": "1"}

    @few
    @given(spoiled(path.read_bytes()))
    def fuzz(content):
        path.write_bytes(content)
        assert isinstance(versions(path), dict)

    fuzz()
    for text in ("[1]", "7", "[" * 9999):
        pq.write_table(table.replace_schema_metadata({"metric_versions": text}), path)
        assert versions(path) == {}


def test_a_cache_of_scores_with_a_flipped_bit_is_computed_anew(tmp_path):
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "x.parquet"
    aum = np.random.default_rng(0).normal(size=200)
    cached, computed = (to_bytes(pa.table({key: aum}), [key]) for key in ("aum", "el2n"))
    path.write_bytes(cached)
    merge(path, computed)
    assert {*versions(path)} == {"aum", "el2n"}
    whole = path.read_bytes()
    for place in range(100, 1000, 50):  # within the scores
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert versions(path) == {}
        merge(path, computed)
        assert pq.read_table(path).column_names == ["el2n"]


SOURCES = [p for name in ("hardness", "sweep", "experiments") for p in (ROOT / name).rglob("*.py")]
# A name as it is called, and who may: the user's own plugins, which are named on purpose.
FORBIDDEN = {
    "pickle.load": (), "pickle.loads": (), "pickle.Unpickler": (), "cloudpickle.load": (),
    "cloudpickle.loads": (), "joblib.load": (), "dill.load": (), "dill.loads": (),
    "marshal.loads": (), "shelve.open": (), "pd.read_pickle": (), "pandas.read_pickle": (),
    "yaml.load": (), "yaml.unsafe_load": (), "eval": (), "exec": ("sweep/experiment/plugins.py",),
    "compile": ("sweep/experiment/plugins.py",), "torch.load": (), "np.load": (), "numpy.load": (),
    "__import__": (), "os.system": (), "os.popen": (),
}  # fmt: skip


def calls(text):
    """Dotted names that a source calls."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}


def misused(text, place):
    """Calls of a source that could run what a file says."""
    found = [name for name, _ in calls(text) if name in FORBIDDEN and place not in FORBIDDEN[name]]
    for name, given_keywords in calls(text):
        loads = name.endswith("load_state_dict_from_url")
        if loads and given_keywords.get("weights_only") != "True":
            found.append(name)
        if given_keywords.get("shell") == "True" or given_keywords.get("allow_pickle") == "True":
            found.append(name)
        if name == "YAML" and given_keywords.get("typ") != "'safe'":
            found.append(name)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_source_runs_what_a_file_says(path):
    assert misused(path.read_text(), str(path.relative_to(ROOT))) == []


@pytest.mark.parametrize(
    "text",
    ["pickle.load(f)", "exec(x)", "torch.load(p)", "YAML()", "np.load(p)", "a(allow_pickle=True)",
     "torch.hub.load_state_dict_from_url(u)", "subprocess.run(x, shell=True)"],
)  # fmt: skip
def test_the_look_for_them_finds_each(text):
    assert misused(text, "sweep/cli.py")


def test_a_plugin_is_run_only_where_the_user_names_it(tmp_path):
    """Beside the runs, in a store's file or in the working directory it is but a file."""
    with Recorder(tmp_path / "runs" / "a", labels=[0, 1, 0], seed=0) as recorder:
        recorder.record(0, [0, 1, 2], torch.zeros(3, 2))
        recorder.end_epoch()
    evil = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    for name in ("plugin.py", "conftest.py", "sitecustomize.py"):
        (tmp_path / "runs" / "a" / name).write_text(evil)
    spec = json.loads((tmp_path / "runs" / "a" / "spec.json").read_text())
    spec["plugins"] = spec["run"]["plugins"] = [str(tmp_path / "runs" / "a" / "plugin.py")]
    (tmp_path / "runs" / "a" / "spec.json").write_text(json.dumps(spec))
    with refused_at_most(Mistake):
        gather(tmp_path / "runs", tmp_path / "out")
    assert not (tmp_path / "ran").exists()
