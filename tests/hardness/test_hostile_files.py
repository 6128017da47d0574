"""Files from elsewhere: each is read or refused in its reader's own line, whatever is in it."""

import io
import json
import pickle
import shutil
import struct
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hardness.data import datasets
from hardness.data.image_files import Cache, ImageFiles, decoded
from hardness.data.options import DatasetOptions
from hardness.dynamics import checkpoint as checkpoints
from hardness.dynamics.folder import (
    MANIFEST,
    SAMPLES,
    SPEC,
    Dynamics,
    Manifest,
    epoch_file,
    read_summary,
    samples_table,
    snapshot_file,
    write_epoch,
    write_manifest,
    write_samples,
    write_spec,
)
from hardness.dynamics.importers import import_aum, import_cartography, read_scores
from hardness.dynamics.record import EpochRecord
from hardness.dynamics.recorder import Recorder
from hardness.files import Damaged, fingerprint
from tests.refusals import refused_at_most
from tests.strategies import few, spoiled

ROWS = 40
PARTS = [SAMPLES, SPEC, epoch_file(0), epoch_file(1), snapshot_file(1)]


def write_run(folder):
    """A finished run of two epochs; the names of its files."""
    names = [write_samples(folder, samples_table(sample_ids=range(ROWS), labels=[0, 1] * 20))]
    names.append(write_spec(folder, {"classes": ["a", "b"]}))
    for epoch in range(2):
        drawn = np.random.default_rng(epoch).normal(size=ROWS).astype(np.float32)
        emb = {"emb": np.ones((ROWS, 3), np.float32)} if epoch else {}
        record = EpochRecord(
            epoch=epoch,
            signals={"loss": drawn, "correct": drawn > 0},
            summary={"lr": 0.1},
            snapshots=emb,
        )
        names += write_epoch(folder, record)
    seal(folder, names)
    return names


def seal(folder, names, rows=ROWS):
    """A manifest that vouches for the files as they are."""
    files = {name: fingerprint(folder / name) for name in names}
    write_manifest(folder, Manifest(epochs=2, rows=rows, signals=("loss", "correct"), files=files))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_run(folder)
    return folder


def look_at_everything(folder):
    dynamics = Dynamics(folder)
    dynamics.verify()
    found = dynamics.signals(["loss", "correct"])
    # A column whose name is spoiled in one epoch counts as recorded in the other alone.
    assert all(values.shape in {(1, ROWS), (2, ROWS)} for values in found.values())
    assert all(len(values) == ROWS for values in dynamics.snapshots().values())
    assert len(dynamics.samples) == ROWS
    assert dynamics.summaries("lr").shape == (2,)
    assert isinstance(dynamics.classes, tuple)


def test_the_run_is_whole_before_it_is_spoiled(run):
    look_at_everything(run)


@pytest.mark.parametrize("name", PARTS)
def test_a_run_that_vouches_for_anything_is_read_or_damaged(run, tmp_path, name):
    shutil.copytree(run, tmp_path / "run")
    whole = (run / name).read_bytes()

    @few
    @given(spoiled(whole))
    def check(content):
        (tmp_path / "run" / name).write_bytes(content)
        seal(tmp_path / "run", PARTS)
        with refused_at_most(Damaged):
            look_at_everything(tmp_path / "run")

    check()


@few
@given(data=st.data())
def test_a_spoiled_manifest_is_read_or_damaged(run, data):
    content = data.draw(spoiled((run / MANIFEST).read_bytes()))
    try:
        manifest = Manifest.from_json(content)
    except Damaged:
        return
    assert not any(".." in name or name.startswith("/") for name in manifest.files)


STRANGE_NAMES = [
    "../x", "/etc/passwd", "dynamics/../../x", "dynamics\\epoch=0000.parquet", "CON", "C:\\x",
    "dynamics/epoch=0000.parquet\0", "dynamics/epoch=0000.parquet\n", "./samples.parquet",
    "dynamics//epoch=0000.parquet", "\ud800", "", ".", "snapshots/epoch=init.safetensors",
]  # fmt: skip


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_a_manifest_names_nothing_outside_the_layout(name):
    files = {name: {"bytes": 1, "sha256": "0"}}
    content = {"epochs": 1, "rows": 1, "signals": [], "files": files}
    with pytest.raises(Damaged):
        Manifest.from_json(json.dumps(content))


def test_a_link_in_the_place_of_a_partial_file_is_not_written_through(tmp_path):
    (tmp_path / "outside").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f".{SPEC}.partial").symlink_to(tmp_path / "outside")
    write_spec(tmp_path / "run", {"classes": []})
    assert (tmp_path / "outside").read_text() == "mine"
    assert not (tmp_path / "run" / SPEC).is_symlink()


def test_tables_that_do_not_hold_numbers_are_damaged(run, tmp_path):
    lists = pa.array([[1.0]] * ROWS)
    for column in (["x"] * ROWS, [None] * ROWS, [b"x"] * ROWS, lists, [True, None] * (ROWS // 2)):
        folder = tmp_path / "run"
        shutil.copytree(run, folder, dirs_exist_ok=True)
        pq.write_table(pa.table({"loss": column, "correct": [True] * ROWS}), folder / epoch_file(0))
        seal(folder, PARTS)
        with pytest.raises(Damaged, match="numbers in loss"):
            Dynamics(folder).signals(["loss"])
    twice = pa.table([[1.0] * ROWS] * 2, names=["loss", "loss"])
    pq.write_table(twice, folder / epoch_file(0))
    seal(folder, PARTS)
    with pytest.raises(Damaged):
        Dynamics(folder).signals(["loss"])


@pytest.mark.parametrize(
    "summary", [b"[]", b"7", b'{"lr": []}', b"[" * 9999, b'{"lr": 1' + b"0" * 5000]
)
def test_a_summary_that_is_none_is_damaged(tmp_path, summary):
    table = pa.table({"loss": [1.0]}).replace_schema_metadata({b"summary": summary})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(Damaged):
        read_summary(tmp_path / "x.parquet")


def test_a_spoiled_checkpoint_is_whole_or_none(tmp_path):
    tensors = {"module.weight": torch.arange(20.0)}
    path = checkpoints.save(checkpoints.Checkpoint(epoch=3, tensors=tensors), tmp_path)
    whole = path.read_bytes()

    @few
    @given(spoiled(whole))
    def check(content):
        path.write_bytes(content)
        found = checkpoints.load(path)
        assert found is None or isinstance(found.epoch, int)

    check()


def csv_text():
    return pd.DataFrame({"sample_id": range(30), "mine": np.linspace(0, 1, 30)}).to_csv(index=False)


def parquet_bytes(table):
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_spoiled_scores_are_numbers_or_refused(tmp_path, ending):
    table = pa.table({"sample_id": range(30), "mine": np.linspace(0, 1, 30)})
    whole = csv_text().encode() if ending == "csv" else parquet_bytes(table)
    path = tmp_path / f"mine.{ending}"
    cells = st.sampled_from(["1", "-0", "1e999", "nan", "", '"', "9" * 400, "\ud83d", "0x1", "\0"])
    rows = st.lists(st.lists(cells, min_size=1, max_size=3).map(",".join), max_size=5)
    texts = rows.map(lambda r: "\n".join(["sample_id,a", *r]).encode(errors="surrogatepass"))

    @few
    @given(spoiled(whole) | texts if ending == "csv" else spoiled(whole))
    def check(content):
        path.write_bytes(content)
        with refused_at_most(ValueError, str(path), "expected"):
            found = read_scores(path)
            assert (found.dtypes == np.float64).all()

    check()


def test_spoiled_lines_of_cartography_are_read_or_refused(tmp_path):
    lines = [{"guid": i, "logits_epoch_0": [0.5, i], "gold": i % 2} for i in range(6)]
    whole = "\n".join(map(json.dumps, lines)).encode()
    (tmp_path / "in").mkdir()

    @settings(few, max_examples=40)
    @given(spoiled(whole))
    def check(content):
        (tmp_path / "in" / "dynamics_epoch_0.jsonl").write_bytes(content)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        with refused_at_most(ValueError, "expected"):
            import_cartography(tmp_path / "in", tmp_path / "out")

    check()


RECORDS = "sample_id,num_measurements,target_logit,target_val,other_logit,other_val,margin\n"


@pytest.mark.parametrize("name", ["aum_values.csv", "full_aum_records.csv"])
def test_spoiled_files_of_aum_are_read_or_refused(tmp_path, name):
    rows = [f"{i},{k},{i % 2},{i / 7},{1 - i % 2},0.25,{i / 9}" for i in range(6) for k in (1, 2)]
    whole = RECORDS + "\n".join(rows) if name.startswith("full") else csv_text()
    whole = whole.replace(",mine", ",aum").encode()

    @settings(few, max_examples=40)
    @given(spoiled(whole))
    def check(content):
        (tmp_path / name).write_bytes(content)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        with refused_at_most(ValueError, "expected"):
            import_aum(tmp_path / name, tmp_path / "out")

    check()


@pytest.mark.parametrize("name", ["aum_values.csv", "full_aum_records.csv"])
def test_a_row_of_aum_that_names_no_sample_is_refused(tmp_path, name):
    values = "sample_id,aum\n0,1\n,2\n"
    records = RECORDS + "0,1,0,0.5,1,0.25,0.25\n,1,0,0.5,1,0.25,0.25\n"
    (tmp_path / name).write_text(records if name.startswith("full") else values)
    with pytest.raises(ValueError, match="expected a sample_id in every row"):
        import_aum(tmp_path / name, tmp_path / "out")


def test_records_of_epochs_that_nobody_was_in_are_refused(tmp_path):
    """One late presentation of one sample would make thousands of epochs of all samples."""
    rows = [f"{i},1,0,0.5,1,0.25,0.25" for i in range(2000)]
    rows[-1] = "1999,2000,0,0.5,1,0.25,0.25"
    (tmp_path / "full_aum_records.csv").write_text(RECORDS + "\n".join(rows))
    with pytest.raises(ValueError, match="expected about equally many presentations"):
        import_aum(tmp_path / "full_aum_records.csv", tmp_path / "out")


def encoded(form, size=(9, 7), mode="RGB"):
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, form)
    return file.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP"])
def test_a_spoiled_image_is_pixels_or_refused(form):
    whole = encoded(form)

    @few
    @given(spoiled(whole), st.none() | st.just(4))
    def check(content, size):
        with refused_at_most(ValueError, "x: expected "):
            pixels = decoded("x", content, size)
            assert pixels.dtype == np.uint8
            assert len(pixels) in (1, 3)

    check()


def test_an_image_that_is_no_file_is_not_waited_for(tmp_path):
    import os

    (tmp_path / "train" / "a").mkdir(parents=True)
    os.mkfifo(tmp_path / "train" / "a" / "x.png")
    with pytest.raises(ValueError, match="got no ordinary file"):
        datasets.load(DatasetOptions(name="imagefolder", root=str(tmp_path)), 0.5)


def test_a_spoiled_parquet_dataset_is_read_or_refused(tmp_path):
    images = pa.array([{"bytes": encoded("PNG"), "path": ""}] * 8)
    whole = parquet_bytes(pa.table({"image": images, "label": [0, 1] * 4, "age": range(8)}))
    path = tmp_path / "x.parquet"

    @few
    @given(spoiled(whole))
    def check(content):
        path.write_bytes(content)
        with refused_at_most(ValueError, "expected"):
            found = datasets.load(DatasetOptions(name="parquet", root=str(path)), 0.25)
            assert len(found.columns) == len(found.train) == len(found.train.images)

    check()


def idx(array):
    return (
        struct.pack(">I", 0x800 + array.ndim)
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_spoiled_files_of_mnist_are_read_or_refused(tmp_path, name):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    images, labels = np.zeros((4, 28, 28), np.uint8), np.array([0, 1, 0, 1], np.uint8)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    whole = (folder / name).read_bytes()
    options = DatasetOptions(name="mnist", root=str(tmp_path))
    assert len(datasets.load(options, 0.5).train) == 2

    @few
    @given(spoiled(whole))
    def check(content):
        (folder / name).write_bytes(content)
        with refused_at_most(ValueError, "expected"):
            datasets.load(options, 0.5)

    check()


def test_a_spoiled_unfinished_run_is_gone_on_with_or_refused(tmp_path):
    folder = tmp_path / "run"

    def recorder():
        return Recorder(folder, labels=[0, 1, 0], seed=0)

    first = recorder()
    first.record(0, [0, 1, 2], torch.randn(3, 2), phase="eval", embeddings=torch.randn(3, 2))
    first.end_epoch()
    files = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    names = st.sampled_from(sorted(files))

    @few
    @given(data=st.data())
    def check(data):
        for path, content in files.items():
            path.write_bytes(content)
        path = data.draw(names)
        path.write_bytes(data.draw(spoiled(files[path])))
        with refused_at_most(ValueError, "expected"):
            recorder()

    check()


@pytest.fixture
def cached(tmp_path):
    """Two images on disk and the cache of their pixels."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encoded("PNG", (4, 4)))
    files = ImageFiles(
        root=tmp_path,
        names=np.array([b"a.png", b"b.png"]),
        sizes=np.array([1, 1]),
        ids=np.arange(2),
        priorities=np.arange(2, dtype=np.uint64),
        image_size=4,
        threads=1,
    )
    cache = Cache.of(files, tmp_path / "cache")
    cache.write()
    return cache


def test_a_spoiled_cache_of_pixels_is_read_or_refused(cached):
    whole = cached.path.read_bytes()

    @few
    @given(spoiled(whole))
    def check(content):
        cached.path.write_bytes(content)
        with refused_at_most(ValueError, "expected a cache"):
            pixels = cached.images.read(torch.arange(2))
            assert pixels.shape == (2, 3, 4, 4)

    check()


class Marker:
    """Leaves a file behind wherever it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_no_reader_unpickles_anything(cached, run, tmp_path):
    marker = tmp_path / "unpickled"
    evil = pickle.dumps(Marker(marker))
    pickle.loads(evil).close()
    assert marker.exists()
    marker.unlink()

    array = np.empty(2, object)
    array[:] = [Marker(marker)] * 2
    np.save(cached.path, array, allow_pickle=True)
    with pytest.raises(ValueError, match="expected a cache"):
        cached.images.read(torch.arange(2))

    torch.save({"module.weight": Marker(marker)}, tmp_path / "epoch=0001.safetensors")
    assert checkpoints.load(tmp_path / "epoch=0001.safetensors") is None

    metadata = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": evil,
    }
    kind = pa.field("mine", pa.float64(), metadata=metadata)
    ids = pa.array([0, 1])
    table = pa.table([ids, pa.array([0.5, 1.0])], schema=pa.schema([("sample_id", ids.type), kind]))
    pq.write_table(table, tmp_path / "scores.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read_scores(tmp_path / "scores.parquet")["mine"].tolist() == [0.5, 1.0]

    shutil.copytree(run, tmp_path / "run")
    for name in PARTS:
        (tmp_path / "run" / name).write_bytes(evil)
    seal(tmp_path / "run", PARTS)
    for look in (
        lambda d: d.samples, lambda d: d.classes, lambda d: d.snapshots(),
        lambda d: d.signals(["loss"]), lambda d: d.summaries("lr"),
    ):  # fmt: skip
        with pytest.raises(Damaged):
            look(Dynamics(tmp_path / "run"))

    # CIFAR's own files are pickles, which torchvision opens only where their MD5 is the known one.
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("batches.meta", "test_batch", *(f"data_batch_{i}" for i in range(1, 6))):
        (folder / name).write_bytes(evil)
    with pytest.raises(ValueError, match="expected its files"):
        datasets.load(DatasetOptions(name="cifar10", root=str(tmp_path)))
    assert not marker.exists()


LIES = """
import resource, sys
import torch, torchvision, pandas, pyarrow.parquet
from pathlib import Path
from hardness.data import datasets
from hardness.data.image_files import decoded
from hardness.data.options import DatasetOptions
from hardness.dynamics.folder import Dynamics
from hardness.dynamics.importers import read_scores

now = int(next(l for l in open("/proc/self/status") if l.startswith("VmSize")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 30),) * 2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for place in map(Path, sys.argv[1:]):
    looks = {
        "signals": lambda: Dynamics(place / "run").signals(["loss"]),
        "samples": lambda: Dynamics(place / "run").samples,
        "snapshots": lambda: Dynamics(place / "run").snapshots(),
        "scores": lambda: read_scores(place / "scores.parquet"),
        "dataset": lambda: datasets.load(
            DatasetOptions(name="parquet", root=str(place / "d.parquet")), 0.5
        ),
        "mnist": lambda: datasets.load(DatasetOptions(name="mnist", root=str(place)), 0.5),
        "png": lambda: decoded("png", (place / "x.png").read_bytes()),
        "bmp": lambda: decoded("bmp", (place / "x.bmp").read_bytes()),
    }
    for name, look in looks.items():
        try:
            look()
        except ValueError as error:
            print(name, "refused")
        else:
            print(name, "read")
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print("grown", grown >> 10)
"""


def varint(value):
    """A positive number as parquet's footer has it."""
    value, found = value << 1, b""
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def lying(whole, rows, claimed):
    """A parquet file whose footer says other rows, wherever it says how many there are."""
    size = int.from_bytes(whole[-8:-4], "little")
    footer = whole[-8 - size : -8]
    assert varint(rows) in footer
    footer = footer.replace(varint(rows), varint(claimed))
    return whole[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def write_lies(place, claimed):
    rows, folder = 12_345, place / "run"
    names = [write_samples(folder, samples_table(sample_ids=range(rows), labels=[0] * rows))]
    for epoch in range(2):
        signals = {"loss": np.arange(rows, dtype=np.float32)}
        names += write_epoch(folder, EpochRecord(epoch=epoch, signals=signals, summary={}))
    names.append(snapshot_file(1))
    for name in names[:3]:
        (folder / name).write_bytes(lying((folder / name).read_bytes(), rows, claimed))
    shape = f'{{"emb":{{"dtype":"F32","shape":[{claimed}],"data_offsets":[0,{4 * claimed}]}}}}'
    (folder / "snapshots").mkdir()
    (folder / names[-1]).write_bytes(len(shape).to_bytes(8, "little") + shape.encode() + b"\0" * 64)
    seal(folder, names, rows=claimed)
    scores = pa.table({"sample_id": range(rows), "mine": np.arange(rows, dtype=float)})
    (place / "scores.parquet").write_bytes(lying(parquet_bytes(scores), rows, claimed))
    images = pa.array([{"bytes": b"x", "path": ""}] * rows)
    dataset = pa.table({"image": images, "label": [0] * rows})
    (place / "d.parquet").write_bytes(lying(parquet_bytes(dataset), rows, claimed))
    raw = place / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        header = struct.pack(">IIII", 0x803, claimed % 2**32 or 2**31, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + b"\0" * 784)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 2**31) + b"\0")
    png = encoded("PNG")
    wide = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    (place / "x.png").write_bytes(png[:16] + wide + png[24:])
    bmp = encoded("BMP")
    (place / "x.bmp").write_bytes(bmp[:18] + struct.pack("<ii", 30_000, 30_000) + bmp[26:])


def test_headers_that_claim_terabytes_are_refused_without_them(tmp_path):
    places = {tmp_path / str(claimed): claimed for claimed in (2**28, 2**33, 2**40)}
    for place, claimed in places.items():
        place.mkdir()
        write_lies(place, claimed)
    done = subprocess.run(
        [sys.executable, "-c", LIES, *places], capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    *looks, grown = done.stdout.splitlines()
    assert [line.split()[1] for line in looks] == ["refused"] * 24, done.stdout
    assert int(grown.split()[1]) < 400
