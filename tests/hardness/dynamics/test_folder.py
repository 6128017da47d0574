"""The store of one run: bits in, bits out, and nothing believed that a folder claims."""

import errno
import json
import math
import re
import resource

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardness.data.datasets import load
from hardness.data.options import DatasetOptions
from hardness.dynamics import folder as module
from hardness.dynamics.folder import (
    MANIFEST,
    SAMPLES,
    Dynamics,
    Manifest,
    epoch_file,
    read_summary,
    samples_table,
    snapshot_file,
    write_epoch,
    write_manifest,
    write_samples,
)
from hardness.dynamics.record import INIT, EpochRecord
from hardness.files import Damaged, fingerprint
from hardness.models.options import ModelOptions
from hardness.seeding import Streams
from hardness.training.options import Supervised, TrainOptions
from hardness.training.supervised import supervised

ROWS, EPOCHS, GROUP = 50, 3, 16
TEN_FLOATS = (
    "loss", "p_label", "label_margin", "entropy", "el2n", "max_softmax", "margin", "energy",
    "feature_norm", "msd",
)  # fmt: skip


def record(epoch, *, signals=None, rows=ROWS, snapshots=None, **summary):
    """An epoch with awkward numbers in it, unless given its signals."""
    generator = np.random.default_rng(epoch + 1)
    loss = generator.normal(size=rows).astype(np.float32)
    awkward = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-42, 3.4e38], dtype=np.float32)
    loss[: len(awkward)] = awkward[:rows]
    drawn = {"loss": loss, "correct": generator.random(rows) < 0.5}
    return EpochRecord(
        epoch=epoch,
        signals=drawn if signals is None else signals,
        summary=summary,
        snapshots=snapshots or {},
        checkpoint=lambda: pytest.fail("writing takes no checkpoint"),
    )


def write_run(folder, *, rows=ROWS, **changes):
    """A finished run; ``changes`` replace fields of its manifest."""
    names = [write_samples(folder, samples_table(sample_ids=range(rows), labels=[0] * rows))]
    for epoch in range(INIT, EPOCHS):
        last = {"emb": np.arange(2.0 * rows, dtype=np.float32).reshape(rows, 2)}
        snapshots = last if epoch == EPOCHS - 1 else {}
        names += write_epoch(folder, record(epoch, rows=rows, snapshots=snapshots))
    fields = {
        "epochs": EPOCHS,
        "rows": rows,
        "signals": ("loss", "correct", "emb"),
        "files": {name: fingerprint(folder / name) for name in names},
    }
    write_manifest(folder, Manifest(**fields | changes))
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROW_GROUP", GROUP)
    return write_run(tmp_path / "run")


def assert_same_bits(found, expected):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


BLOCKS = [(0, 50), (0, 1), (0, 16), (15, 17), (16, 32), (20, 20), (33, 50), (49, 50)]


@pytest.mark.parametrize("rows", [None, *BLOCKS])
def test_any_block_of_samples_comes_back_bit_for_bit(run, rows):
    assert pq.ParquetFile(run / epoch_file(0)).num_row_groups == 4
    found = Dynamics(run).signals(["loss", "correct"], rows)
    assert found.keys() == {"loss", "correct"}
    for name, values in found.items():
        expected = np.stack([record(epoch).signals[name] for epoch in range(EPOCHS)])
        assert_same_bits(values, expected[:, slice(*rows or (0, ROWS))])


def test_a_file_written_in_other_row_groups_reads_the_same(run, monkeypatch):
    before = Dynamics(run).signals(["loss"], (20, 40))["loss"]
    monkeypatch.setattr(module, "ROW_GROUP", 5)
    assert_same_bits(Dynamics(run).signals(["loss"], (20, 40))["loss"], before)


def test_only_the_row_groups_of_a_block_are_read(run):
    path = run / epoch_file(1)
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    content = bytearray(path.read_bytes())
    end = column.data_page_offset + column.total_compressed_size
    content[column.data_page_offset : end] = b"\xff" * (end - column.data_page_offset)
    path.write_bytes(content)
    expected = record(1).signals["loss"][GROUP:]
    assert_same_bits(Dynamics(run).signals(["loss"], (GROUP, ROWS))["loss"][1], expected)
    with pytest.raises(Damaged, match=re.escape(epoch_file(1))):
        Dynamics(run).signals(["loss"])


def test_no_names_are_no_signals(run):
    assert Dynamics(run).signals([]) == {}


def test_samples_and_snapshots_come_back(tmp_path):
    run = Dynamics(write_run(tmp_path))
    assert run.samples["sample_id"].tolist() == list(range(ROWS))
    expected = np.arange(2.0 * ROWS, dtype=np.float32).reshape(ROWS, 2)
    assert_same_bits(run.snapshots()["emb"], expected)


def test_a_run_without_snapshots_has_none(tmp_path):
    run = write_run(tmp_path)
    manifest = Dynamics(run).manifest
    files = {k: v for k, v in manifest.files.items() if k != snapshot_file(EPOCHS - 1)}
    write_run(tmp_path, files=files)
    assert Dynamics(run).snapshots() == {}


def test_truth_stands_beside_its_sample():
    truth = pd.DataFrame({"truth_votes": [5, 3]}, index=[8, 9])
    table = samples_table(sample_ids=[4, 7], labels=[1, 0], columns=truth)
    assert table.to_dict("list") == {"sample_id": [4, 7], "label": [1, 0], "truth_votes": [5, 3]}


def test_the_summary_travels_with_the_epoch_but_its_seconds_stay(tmp_path):
    names = write_epoch(
        tmp_path, record(4, train_loss=0.1, val_loss=math.nan, train_seconds=2.5, eval_seconds=1.0)
    )
    assert names == ["dynamics/epoch=0004.parquet"]
    summary = read_summary(tmp_path / names[0])
    assert summary.pop("train_loss") == 0.1
    assert math.isnan(summary.pop("val_loss"))
    assert summary == {}


def test_an_epoch_without_signals_still_has_its_summary(tmp_path):
    (name,) = write_epoch(tmp_path, record(0, signals={}, val_accuracy=0.5))
    assert read_summary(tmp_path / name) == {"val_accuracy": 0.5}


def test_a_number_of_every_summary_is_a_row_over_the_epochs(tmp_path):
    """NaN in an epoch without it, and for a run that never had it."""
    folder = write_run(tmp_path)
    for epoch in range(EPOCHS):
        lr = {} if epoch == 1 else {"lr": 0.1 / (epoch + 1)}
        write_epoch(folder, record(epoch, **lr))
    names = [p.relative_to(folder).as_posix() for p in folder.glob("*/*")]
    write_manifest(
        folder,
        Manifest(
            epochs=EPOCHS, rows=ROWS, signals=("loss",),
            files={name: fingerprint(folder / name) for name in [*names, "samples.parquet"]},
        ),
    )  # fmt: skip
    found = Dynamics(folder).summaries("lr")
    expected = [0.1 / (epoch + 1) for epoch in range(EPOCHS)]
    expected[1] = math.nan
    np.testing.assert_array_equal(found, expected)
    assert np.isnan(Dynamics(folder).summaries("nothing")).all()


def test_a_replayed_epoch_leaves_the_same_file(tmp_path):
    files = []
    for folder, seconds in (("one", 1.0), ("other", 2.0)):
        kept = record(2, snapshots={"emb": np.ones((ROWS, 3))}, loss=0.5, train_seconds=seconds)
        names = write_epoch(tmp_path / folder, kept)
        files.append({name: fingerprint(tmp_path / folder / name) for name in names})
    assert files[0] == files[1]
    assert [*files[0]] == ["dynamics/epoch=0002.parquet", "snapshots/epoch=0002.safetensors"]


def test_a_whole_run_verifies(run):
    Dynamics(run).verify()


@pytest.mark.parametrize("name", [SAMPLES, epoch_file(INIT), epoch_file(1), snapshot_file(2)])
def test_one_other_byte_fails_the_digest(run, name):
    path = run / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(Damaged, match=re.escape(f"{path}: expected the manifest's digest")):
        Dynamics(run).verify()


@pytest.mark.parametrize("name", [SAMPLES, epoch_file(INIT), epoch_file(1), snapshot_file(2)])
def test_a_file_cut_short_or_missing_is_damaged(run, name):
    path = run / name
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(Damaged, match=re.escape(f"{path}: expected {len(content)} bytes")):
        Dynamics(run)
    path.unlink()
    with pytest.raises(Damaged, match=re.escape(f"{path}: expected {len(content)} bytes")):
        Dynamics(run)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        (SAMPLES, lambda run: run.samples),
        (epoch_file(1), lambda run: run.signals(["loss"])),
        (snapshot_file(2), lambda run: run.snapshots()),
    ],
)
def test_garbage_of_the_right_size_is_damaged_where_it_is_read(run, name, read):
    path = run / name
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))
    with pytest.raises(Damaged, match=re.escape(str(path))):
        read(Dynamics(run))


def test_a_signal_of_some_epochs_has_one_row_for_each_of_them(tmp_path):
    names = [write_samples(tmp_path, samples_table(sample_ids=range(ROWS), labels=[0] * ROWS))]
    stages = {INIT: {}, 0: "first", 1: "first", 2: "second"}
    drawn = np.random.default_rng(0).random((EPOCHS, ROWS)).astype(np.float32)
    for epoch, stage in stages.items():
        signals = {"always": drawn[epoch], stage: drawn[epoch]} if stage else {}
        names += write_epoch(tmp_path, record(epoch, signals=signals))
    files = {name: fingerprint(tmp_path / name) for name in names}
    names = ["always", "first", "second"]
    manifest = Manifest(epochs=EPOCHS, rows=ROWS, signals=tuple(names), files=files)
    write_manifest(tmp_path, manifest)
    for rows in (None, (7, 30)):
        found = Dynamics(tmp_path).signals(names, rows)
        for name, epochs in (("always", [0, 1, 2]), ("first", [0, 1]), ("second", [2])):
            assert_same_bits(found[name], drawn[epochs, slice(*rows or (0, ROWS))])
    with pytest.raises(Damaged, match="expected third in some epoch; got none"):
        Dynamics(tmp_path).signals(["first", "third"])


def test_an_epoch_of_other_columns_or_rows_is_damaged(run):
    with pytest.raises(Damaged, match="expected msd, lose"):
        Dynamics(run).signals(["loss", "msd", "lose"])
    write_epoch(run, record(1, rows=ROWS - 1))
    files = dict(Dynamics(write_run(run.with_name("other"))).manifest.files)
    files[epoch_file(1)] = fingerprint(run / epoch_file(1))
    write_manifest(run, Manifest(epochs=EPOCHS, rows=ROWS, signals=("loss",), files=files))
    with pytest.raises(Damaged, match="expected 50 rows; got 49"):
        Dynamics(run).signals(["loss"])


def test_a_signal_that_changes_its_type_is_damaged(run):
    wide = {name: values.astype(np.float64) for name, values in record(1).signals.items()}
    write_epoch(run, record(1, signals=wide))
    files = {**Dynamics(write_run(run.with_name("other"))).manifest.files}
    files[epoch_file(1)] = fingerprint(run / epoch_file(1))
    write_manifest(run, Manifest(epochs=EPOCHS, rows=ROWS, signals=("loss",), files=files))
    with pytest.raises(Damaged, match=r"expected loss as float32, .* got float64"):
        Dynamics(run).signals(["loss"])


def test_samples_of_other_rows_are_damaged(tmp_path):
    run = write_run(tmp_path, rows=ROWS - 1)
    content = json.loads((run / MANIFEST).read_text())
    (run / MANIFEST).write_text(json.dumps(content | {"rows": ROWS}))
    with pytest.raises(Damaged, match="expected 50 rows; got 49"):
        _ = Dynamics(run).samples


def test_a_run_without_a_manifest_or_an_epoch_is_damaged(run):
    content = json.loads((run / MANIFEST).read_text())
    del content["files"][epoch_file(1)]
    (run / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(Damaged, match=f"expected 3 epochs; got no {epoch_file(1)}"):
        Dynamics(run)
    (run / MANIFEST).unlink()
    with pytest.raises(Damaged, match=r"expected a run with a manifest\.json"):
        Dynamics(run)


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/passwd",
        "dynamics/../../x",
        "dynamics/../samples.parquet",
        "./samples.parquet",
        "samples.parquet/",
        "samples.parquet\n",
        "samples.parquet\x00",
        "dynamics\\epoch=0001.parquet",
        "dynamics/epoch=1.parquet",
        "dynamics/epoch=\u0661\u0661\u0661\u0661.parquet",
        "snapshots/epoch=init.safetensors",
        "snapshots/epoch=0001.pickle",
        "manifest.json",
        "",
    ],
)
def test_a_manifest_that_names_a_foreign_file_is_damaged(tmp_path, name):
    run = write_run(tmp_path / "run")
    (tmp_path / "x").write_bytes(b"outside")
    content = json.loads((run / MANIFEST).read_text())
    content["files"][name] = {"bytes": 7, "sha256": fingerprint(tmp_path / "x")[1]}
    (run / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(Damaged, match=re.escape(f"expected files of a run; got {name!r}")):
        Dynamics(run)


def test_a_manifest_comes_back(tmp_path):
    manifest = Dynamics(write_run(tmp_path)).manifest
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.signals == ("loss", "correct", "emb")
    assert manifest.files.keys() == {
        SAMPLES,
        *map(epoch_file, range(INIT, EPOCHS)),
        snapshot_file(EPOCHS - 1),
    }


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
file = st.fixed_dictionaries({"bytes": anything, "sha256": anything})
nearly = st.fixed_dictionaries(
    {
        "epochs": st.integers() | anything,
        "rows": st.integers() | anything,
        "signals": st.lists(st.text()) | anything,
        "files": st.dictionaries(st.sampled_from([SAMPLES, "../x"]), file | anything) | anything,
    }
)


@given(text=st.text() | st.binary() | (anything | nearly).map(json.dumps))
def test_any_other_text_is_damaged_and_nothing_else(text):
    try:
        manifest = Manifest.from_json(text)
    except Damaged:
        return
    assert manifest.epochs >= 1
    assert manifest.rows >= 0
    assert {*manifest.files} <= {SAMPLES}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"epochs": 1, "rows": Infinity, "signals": [], "files": {}}',
        '{"epochs": 0, "rows": 1, "signals": [], "files": {}}',
        '{"epochs": 1, "rows": -1, "signals": [], "files": {}}',
        b"\xff\xfe",
    ],
)
def test_a_manifest_out_of_bounds_is_damaged(text):
    with pytest.raises(Damaged, match=r"manifest\.json: expected"):
        Manifest.from_json(text)


def test_an_unreadable_epoch_has_no_summary(run, tmp_path):
    path = run / epoch_file(0)
    path.write_bytes(path.read_bytes()[:-20])
    pd.DataFrame({"loss": [1.0]}).to_parquet(tmp_path / "foreign.parquet")
    for unreadable in (path, run / "absent.parquet", tmp_path / "foreign.parquet"):
        with pytest.raises(Damaged, match=re.escape(str(unreadable))):
            read_summary(unreadable)


def test_a_failed_write_leaves_the_older_file_and_no_part_of_the_new(tmp_path, monkeypatch):
    run = write_run(tmp_path)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    def full(_table, path, **_):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(pq, "write_table", full)
    for epoch in (1, EPOCHS):
        with pytest.raises(OSError, match="no space left"):
            write_epoch(run, record(epoch))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_no_partial_is_left_where_a_folder_stands_in_the_way(tmp_path):
    (tmp_path / MANIFEST / "sub").mkdir(parents=True)
    with pytest.raises(OSError, match=MANIFEST):
        write_manifest(tmp_path, Manifest(epochs=1, rows=0, signals=(), files={}))
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]


def test_ten_float_signals_of_a_real_training_take_less_than_plain_floats(tmp_path):
    """Plain float32 would take 40 bytes a sample and epoch, pyarrow's defaults some 50."""
    digits = load(DatasetOptions(name="digits"), 0.2)
    options = Supervised(train=TrainOptions(max_epochs=3, lr=0.05))
    model = ModelOptions(name="small_cnn", width=8)
    sizes = []
    for epoch in supervised(digits, model, options, Streams(seed=0)):
        if epoch.epoch > 0:
            floats = {name: epoch.signals[name] for name in TEN_FLOATS}
            assert all(values.dtype == np.float32 for values in floats.values())
            (name,) = write_epoch(tmp_path, record(epoch.epoch, signals=floats))
            sizes.append((tmp_path / name).stat().st_size / len(digits.train))
    assert len(sizes) == 2
    assert max(sizes) < 36


def test_what_the_system_refuses_safetensors_is_an_error_of_the_system(tmp_path):
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, allowed[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            module.write_snapshots(tmp_path, 0, {"emb": np.zeros((4000, 2), np.float32)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    assert caught.value.errno == errno.EFBIG
    assert list((tmp_path / "snapshots").iterdir()) == []
