"""A user's mistakes: one line that says what to do, exit code 2, nothing left and nothing lost."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from hardness.dynamics.recorder import Recorder
from sweep.execution import driver, fanout, status
from sweep.execution.places import Places
from sweep.execution.trial import run_pack
from sweep.experiment import addresses, check, yaml_file
from sweep.planning import due_cells
from sweep.store import mlflow_store
from tests.sweep.sweeps import command

SWEEP = Path(sys.executable).with_name("sweep")
GOOD = """
name: digits
dataset: {name: digits, subset: 60}
validation: {split: 0.2}
model: {name: mlp, width: 4}
regimens: {supervised: {train: {max_epochs: 1}}}
metrics: [aum, el2n]
seeds: 1
"""
PLUGIN = """
from hardness.metrics import metric

@metric(family="supervised", sign=1, sign_origin="hypothesis", labels_used="own",
        summary="one", paper="none")
def KEY(SIGNAL):
    return SIGNAL[0]
"""


def png(width=4, height=4):
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return file.getvalue()


def parquet(path, images, labels):
    pq.write_table(pa.table({"image": images, "label": labels}), path)


def write_files(place):
    """Everything that the mistakes below are made with."""
    (place / "digits.yaml").write_text(GOOD)
    (place / "file").write_text("x")
    (place / "folder").mkdir()
    (place / "latin.yaml").write_bytes(b"name: \xff\n")
    (place / "open.json").write_text('{"name": "digits"')
    (place / "list.yaml").write_text("- a\n- b\n")
    (place / "junk.db").write_text("no database, though as long as one. " * 99)
    for name, text in {
        "mine": "sample_id,mine\n0,1.5\n1,2.5\n",
        "noid": "id,mine\n0,1\n",
        "twice": "sample_id,mine\n0,1\n0,2\n",
        "nothing": "",
        "text": "sample_id,mine\n0,high\n",
        "half": "sample_id,mine\n0.5,1\n",
        "gap": "sample_id,mine\n0,1\n,2\n",
        "alone": "sample_id\n0\n",
        "blank": "sample_id,mine\n0,\n1,\n",
        "others": "sample_id,mine\n100000,1\n100001,2\n",
    }.items():
        (place / f"{name}.csv").write_text(text)
    (place / "latin.csv").write_bytes(b"sample_id,m\xefne\n0,1\n")
    (place / "junk.parquet").write_bytes(b"PAR1junkPAR1")
    (place / "scores.txt").write_text("sample_id,mine\n0,1\n")
    (place / "syntax.py").write_text("def f(:\n")
    (place / "raises.py").write_text("\nraise ValueError('no')\n")
    (place / "exits.py").write_text("raise SystemExit(0)\n")
    (place / "binary.py").write_bytes(b"\xff\xfe\x00")
    (place / "taken.py").write_text(PLUGIN.replace("KEY", "aum").replace("SIGNAL", "loss"))
    (place / "hungry.py").write_text(PLUGIN.replace("KEY", "mine").replace("SIGNAL", "smell"))
    images = pa.array([{"bytes": png(), "path": ""}] * 6)
    labels = [0, 1] * 3
    parquet(place / "floats.parquet", images, [0.5] * 6)
    parquet(place / "negative.parquet", images, [0, -1] * 3)
    parquet(place / "null.parquet", images, pa.array([0, None] * 3))
    parquet(place / "huge.parquet", images, [0, 2**40] * 3)
    parquet(place / "noimage.parquet", pa.array([{"bytes": b"x", "path": ""}] * 6), labels)
    parquet(place / "nobytes.parquet", pa.array([{"bytes": 1, "path": ""}] * 6), labels)
    parquet(place / "paths.parquet", ["a.png"] * 6, labels)
    parquet(place / "empty.parquet", images[:0], pa.array([], pa.int64()))
    pq.write_table(pa.table({"image": images, "age": labels}), place / "unlabeled.parquet")
    for name, files in {
        "junk/train/a": {"x.png": b"junk"},
        "sizes/train/a": {"x.png": png(), "y.png": png(8, 8)},
        "bare/train/a": {},
        "bomb/train/a": {"x.png": png(9460, 9460)},
    }.items():
        (place / name).mkdir(parents=True)
        for file, content in files.items():
            (place / name / file).write_bytes(content)
    torch.manual_seed(0)
    with Recorder(place / "runs" / "seed-0", labels=[0, 1, 2, 0], seed=0) as recorder:
        for epoch in range(2):
            recorder.record(epoch, [0, 1, 2, 3], torch.randn(4, 3))
            recorder.end_epoch()
    for name in ("twins/a", "twins/b", "strange/a"):
        shutil.copytree(place / "runs" / "seed-0", place / name)
    (place / "strange" / "a" / "spec.json").write_text("{}")
    (place / "glue" / "runs").mkdir(parents=True)
    (place / "glue" / "runs" / "mine.txt").write_text("a file of my own")
    line = '{"guid": 1, "logits_epoch_0": [0.5, 1.0], "gold": 1}\n'
    (place / "glue" / "dynamics_epoch_0.jsonl").write_text(line)
    (place / "gap").mkdir()
    (place / "gap" / "dynamics_epoch_1.jsonl").write_text(line)


def train(place):
    """A finished sweep in the store of this folder, as its own packs leave it, without Ray."""
    content = yaml_file.read(place / "digits.yaml")
    spec, dataset = driver.load(check.check(content, "digits.yaml"))
    store = mlflow_store.Store.create(addresses.default_uri(), spec.name)
    known = {"dataset_digest": spec.dataset_digest, "dataset_size": spec.dataset_size}
    store.save_sweep({**driver.resolved(content, spec), **known}, {})
    sweep = status.look(spec, store)
    parents = {
        p.configuration.configuration_id: store.save_configuration(
            p.configuration, p.parameters, p.number
        )
        for p in sweep.proposals
    }
    places = Places(
        store=store,
        name=spec.name,
        storage_path=spec.storage_path,
    )
    for pack in due_cells.packs(sweep.cells, 1, parents):
        list(run_pack(pack, dataset, places))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, migrated):
    """A folder with those files and a finished sweep; no test changes it."""
    place = tmp_path_factory.mktemp("bad")
    shutil.copy(migrated, place / "mlflow.db")
    before = Path.cwd()
    os.chdir(place)
    try:
        write_files(place)
        train(place)
    finally:
        os.chdir(before)
    return place


def content_of(place):
    return {
        str(path.relative_to(place)): path.read_bytes() if path.is_file() else None
        for path in sorted(place.rglob("*"))
    }


@pytest.fixture
def refused(finished, monkeypatch):
    """Run a command that has to be refused; gives its one line, paths relative to the folder."""
    monkeypatch.chdir(finished)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # Starting Ray takes seconds, which nobody should wait for to be told of a slip.
    monkeypatch.setattr(fanout, "session", lambda _say: pytest.fail("Ray was started"))
    before = content_of(finished)

    def line(*arguments):
        code, out, err = command(*arguments)
        assert (code, out) == (2, ""), err
        (told,) = err.splitlines()
        assert told.startswith("sweep: ")
        assert content_of(finished) == before
        return told.removeprefix("sweep: ").replace(f"{finished}/", "").replace(str(finished), ".")

    return line


TABLE = "expected a readable .csv or .parquet file; got"
SEEDS = "expected a count, a list such as [0, 1, 2] or a range such as 0:10; got"
STORE = "tracking_uri: expected a SQLite database or a path for a new one; got"


def images_of(kind, root, **more):
    options = "".join(f", {k}: {v}" for k, v in more.items())
    return f"dataset={{name: {kind}, root: {root}{options}}}"


# What follows `sweep run digits.yaml`, and the line; "…" leaves off the rest.
RUN = [
    (["seeds"], "expected key=value, such as seeds=0:8; got 'seeds'"),
    (["=3"], "expected key=value, such as seeds=0:8; got '=3'"),
    (
        ["seeds=[1"],
        (
            "'seeds=[1': expected YAML after '='; got an error in line 1: expected ',' or ']', "
            "but got '<stream end>'"
        ),
    ),
    (["epochs=3"], "digits.yaml: unknown key 'epochs'; known: artifacts, dataset, keep, …"),
    (["--epochs", "3"], "No such option '--epochs'; see sweep run --help"),
    (["--dry_run"], "No such option '--dry_run'. Did you mean '--dry-run'?; see sweep run --help"),
    (["--seeds", "ten"], f"digits.yaml: seeds: {SEEDS} 'ten'"),
    (["--seeds", "-1"], f"digits.yaml: seeds: {SEEDS} '-1'"),
    (["--seeds", ""], f"digits.yaml: seeds: {SEEDS} ''"),
    (["--seeds", "1,2"], f"digits.yaml: seeds: {SEEDS} '1,2'"),
    (["--seeds", "²"], f"digits.yaml: seeds: {SEEDS} '²'"),
    (
        ["tracking_uri=http://127.0.0.1:1"],
        (
            "tracker http://127.0.0.1:1 does not answer (ConnectionError); start it (mlflow "
            "server) or correct tracking_uri"
        ),
    ),
    (
        ["tracking_uri=http://u:secret@127.0.0.1:1"],
        (
            "tracker http://***@127.0.0.1:1 does not answer (ConnectionError); start it "
            "(mlflow server) or correct tracking_uri"
        ),
    ),
    (
        ["tracking_uri=postgresql://u:secret@host/db"],
        "tracking_uri: expected sqlite:/// or http(s)://; got postgresql://***@host/db",
    ),
    (
        ["tracking_uri=file:///tmp/x"],
        "tracking_uri: expected sqlite:/// or http(s)://; got file:///tmp/x",
    ),
    (["tracking_uri=''"], "digits.yaml: tracking_uri: expected sqlite:/// or http(s)://; got ''"),
    (["tracking_uri=http://"], "tracking_uri: expected http://HOST:PORT; got http://"),
    (["tracking_uri=http://[::1"], "tracking_uri: expected http://HOST:PORT; got http://[::1"),
    (
        ["tracking_uri=http://127.0.0.1:99999"],
        "tracking_uri: expected http://HOST:PORT; got http://127.0.0.1:99999",
    ),
    (["tracking_uri=sqlite:///folder"], f"{STORE} the folder folder"),
    (["tracking_uri=sqlite:///file/mlflow.db"], f"{STORE} file/mlflow.db: file is not a folder"),
    (["tracking_uri=sqlite:///junk.db"], f"{STORE} another file, junk.db"),
    (
        ["storage_path=file"],
        (
            "digits.yaml: storage_path: expected a folder that can be written into; got "
            "file/digits: file is not a folder"
        ),
    ),
    (
        ["storage_path=file/sweeps"],
        (
            "digits.yaml: storage_path: expected a folder that can be written into; got "
            "file/sweeps/digits: file is not a folder"
        ),
    ),
    (
        ['storage_path="a\\0b"'],
        (
            "digits.yaml: storage_path: expected text; got 'a\\x00b', which holds an "
            "invalid character"
        ),
    ),
    (
        ['name="a\\ud800"'],
        ("digits.yaml: name: expected text; got 'a\\ud800', which holds an invalid character"),
    ),
    (
        ["name=../up"],
        (
            "digits.yaml: name: expected up to 100 letters, digits, '.', '_' and '-', a "
            "letter or digit first; got '../up'"
        ),
    ),
    (
        ["plugins=[none.py]"],
        (
            "digits.yaml: plugins: expected a readable Python file; got 'none.py': No such "
            "file or directory"
        ),
    ),
    (
        ["plugins=[folder]"],
        ("digits.yaml: plugins: expected a readable Python file; got 'folder': Is a directory"),
    ),
    (["plugins=[syntax.py]"], "syntax.py: expected a plugin that loads; got SyntaxError: …"),
    (
        ["plugins=[raises.py]"],
        "raises.py: expected a plugin that loads; got ValueError: no (line 2)",
    ),
    (["plugins=[exits.py]"], "exits.py: expected a plugin that loads; got SystemExit: 0 (line 1)"),
    (
        ["plugins=[binary.py]"],
        "digits.yaml: plugins: expected a readable Python file; got 'binary.py': not text",
    ),
    (
        ["plugins=[mine.csv]"],
        (
            "mine.csv: expected a plugin that loads; got NameError: name 'sample_id' is not "
            "defined (line 1)"
        ),
    ),
    (
        ["plugins=[taken.py]"],
        (
            "taken.py: expected a plugin that loads; got ValueError: expected a new key; "
            "got 'aum', which hardness.metrics.label_margin has registered: rename the "
            "function (line 4)"
        ),
    ),
    (
        ["plugins=[hungry.py]", "metrics=[mine]"],
        (
            "digits.yaml: metrics: 'mine' needs smell; expected a regimen that records it; "
            "got supervised"
        ),
    ),
    (
        [images_of("parquet", "none.parquet")],
        (
            "dataset: none.parquet: expected a parquet file, or a folder with train.parquet "
            "or train-00000-of-00001.parquet; got neither"
        ),
    ),
    (
        [images_of("parquet", "folder")],
        (
            "dataset: folder: expected a parquet file, or a folder with train.parquet or "
            "train-00000-of-00001.parquet; got neither"
        ),
    ),
    ([images_of("parquet", "junk.parquet")], "dataset: junk.parquet: expected a parquet file; …"),
    ([images_of("parquet", "mine.csv")], "dataset: mine.csv: expected a parquet file; …"),
    (
        [images_of("parquet", "floats.parquet")],
        "dataset: floats.parquet: expected integers in 'label'; got double",
    ),
    (
        [images_of("parquet", "negative.parquet")],
        ("dataset: negative.parquet: expected labels from 0 to 99999 in 'label'; got -1 in row 1"),
    ),
    (
        [images_of("parquet", "null.parquet")],
        ("dataset: null.parquet: expected labels from 0 to 99999 in 'label'; got null in row 1"),
    ),
    (
        [images_of("parquet", "huge.parquet")],
        (
            "dataset: huge.parquet: expected labels from 0 to 99999 in 'label'; got "
            "1099511627776 in row 1"
        ),
    ),
    (
        [images_of("parquet", "noimage.parquet")],
        ("dataset: ., row 0: expected an image, one of JPEG, PNG, BMP, PPM, TIFF, WEBP; got none"),
    ),
    (
        [images_of("parquet", "nobytes.parquet")],
        ("dataset: nobytes.parquet: expected a column img or image with `bytes`; got image, label"),
    ),
    (
        [images_of("parquet", "paths.parquet")],
        ("dataset: paths.parquet: expected a column img or image with `bytes`; got image, label"),
    ),
    (
        [images_of("parquet", "empty.parquet")],
        "dataset: empty.parquet: expected samples; got no rows",
    ),
    (
        [images_of("parquet", "unlabeled.parquet")],
        ("dataset: unlabeled.parquet: expected a column 'label' with the labels; got image, age"),
    ),
    (
        ["dataset={name: parquet}"],
        "digits.yaml: dataset: parquet: expected a root, the place of the data; got none",
    ),
    (
        [images_of("imagefolder", "none")],
        (
            "dataset: none: expected images in train/<class>/ or <class>/; got: No such "
            "file or directory: none"
        ),
    ),
    (
        [images_of("imagefolder", "file")],
        ("dataset: file: expected images in train/<class>/ or <class>/; got: Not a directory: …"),
    ),
    (
        [images_of("imagefolder", "folder")],
        (
            "dataset: folder: expected images in train/<class>/ or <class>/; got: Couldn't "
            "find any class folder in folder."
        ),
    ),
    (
        [images_of("imagefolder", "junk")],
        (
            "dataset: junk/train/a/x.png: expected an image, one of JPEG, PNG, BMP, PPM, "
            "TIFF, WEBP; got none"
        ),
    ),
    (
        [images_of("imagefolder", "sizes")],
        (
            "dataset: sizes/train/a/y.png: expected one image size, 4x4 as in the first "
            "image; got 8x8; set image_size"
        ),
    ),
    (
        [images_of("imagefolder", "bare")],
        "dataset: bare/train: expected images in every <class>/; got: …",
    ),
    (
        [images_of("imagefolder", "bomb")],
        "dataset: bomb/train/a/x.png: expected at most 89478485 pixels; got more",
    ),
    (
        [images_of("imagefolder", "sizes", image_size=1000000)],
        "digits.yaml: dataset.image_size: expected at most 4096; got 1000000",
    ),
    (
        [images_of("imagefolder", "sizes", image_size=4, cache="sizes/train")],
        (
            "dataset: cache: expected a folder outside sizes/train, where each folder is a class; "
            "got sizes/train"
        ),
    ),
    (
        [images_of("mnist", "folder")],
        (
            "dataset: mnist: expected its files in folder/MNIST/raw; got none or damaged ones; "
            "`download: true` fetches them"
        ),
    ),
    (
        [images_of("cifar10", "file")],
        (
            "dataset: cifar10: expected its files in file/cifar-10-batches-py; got none or damaged "
            "ones; `download: true` fetches them"
        ),
    ),
    (
        [images_of("imagenet", "folder")],
        "dataset: folder: expected images in train/<wnid>/; got: No such file or directory: …",
    ),
    (
        ["dataset.subset=2000"],
        "dataset: subset: expected at most the 1797 training samples of digits; got 2000",
    ),
    (
        ["dataset.subset=2"],
        (
            "dataset: validation: expected a class of two samples to split; got none: take "
            "a larger subset"
        ),
    ),
    (["dataset.subset=1e3"], "digits.yaml: dataset.subset: expected a whole number; got 1000.0"),
    (
        ["dataset.subset=99999999999999999999"],
        ("digits.yaml: dataset.subset: expected a number of at most 18 digits; got a longer one"),
    ),
    (["dataset.data_seed=-1"], "digits.yaml: dataset.data_seed: expected at least 0; got -1"),
    (
        ["validation=test"],
        (
            "dataset: validation: expected a share such as 0.1, since digits has no test "
            "set; got 'test'"
        ),
    ),
    (
        ["plant.noise_symmetric.rate=0.0001"],
        "plant: noise_symmetric: rate: expected at least one of 48 samples; got 0.0001",
    ),
    (
        ["plant.noise_human.column=votes"],
        (
            "plant: noise_human: expected a column of the dataset; got 'votes'; known: "
            "none, since only parquet has columns"
        ),
    ),
    (
        ["plant.noise_asymmetric.rate=0.1"],
        (
            "plant: noise_asymmetric: classes: expected a map from class to wrong class, or a "
            "concentration; got neither, and no classes are known for digits"
        ),
    ),
    (
        ["plant.rare_subgroup.groups={a: [nobody]}"],
        (
            "plant: rare_subgroup: groups: unknown class 'nobody'; known: 0, 1, 2, 3, 4, 5, "
            "6, 7, 8, 9"
        ),
    ),
    (
        ["plant.ood_far={rate: 0.1, dataset: {name: parquet, root: none}}"],
        (
            "plant: none: expected a parquet file, or a folder with train.parquet or "
            "train-00000-of-00001.parquet; got neither"
        ),
    ),
    (
        ["seeds=[99999999999999999999]"],
        "digits.yaml: seeds.0: expected a number of at most 18 digits; got a longer one",
    ),
    (
        ["regimens.supervised.train.max_epochs=99999999"],
        (
            "digits.yaml: regimens.supervised.train.max_epochs: expected at most 1000000; "
            "got 99999999"
        ),
    ),
    (["model.width=1000000"], "digits.yaml: model.width: expected at most 65536; got 1000000"),
    (
        ["model={name: resnet18, pretrained: nobody}"],
        ("digits.yaml: model.pretrained: unknown weights 'nobody' of resnet18; known: true, …"),
    ),
    (
        ["regimens={cross_fit: {folds: 1000}}"],
        "regimens.cross_fit.folds: expected at most the 48 training samples; got 1000",
    ),
    (["resources.cpu=100000"], "resources.cpu: expected at most the …"),
    (["resources.gpu=100000"], "resources.gpu: expected at most the …"),
    (["x\x00y=1"], "digits.yaml: expected text for a key; got 'x\\x00y'"),
    (["a..b=1"], "digits.yaml: unknown key 'a'; known: artifacts, dataset, keep, …"),
]
# Whole commands.
COMMANDS = [
    (["run"], "Missing argument 'FILE'; see sweep run --help"),
    (["run", "none.yaml"], "none.yaml: expected an experiment file; got no file"),
    (
        ["run", "folder"],
        "folder: expected an experiment file that can be read; got: Is a directory",
    ),
    (["run", "latin.yaml"], "latin.yaml: expected a text file; got other bytes"),
    (
        ["run", "open.json"],
        (
            "open.json: expected YAML; got an error in line 1: expected ',' or '}', but got "
            "'<stream end>'"
        ),
    ),
    (["run", "list.yaml"], "list.yaml: expected keys and values; got ['a', 'b']"),
    (["run", "file"], "file: expected keys and values; got 'x'"),
    (["train"], "No such command 'train'; see sweep --help"),
    (["--nope"], "No such option '--nope'; see sweep --help"),
    (["status"], "Missing argument 'NAME'; see sweep status --help"),
    (["status", "nobody"], "no sweep named 'nobody' in sqlite:///mlflow.db; known: digits"),
    (["status", ""], "no sweep named '' in sqlite:///mlflow.db; known: digits"),
    (
        ["status", "digits", "--format", "xml"],
        (
            "Invalid value for '--format': 'xml' is not one of 'table', 'json', 'csv'; see "
            "sweep status --help"
        ),
    ),
    (
        ["status", "digits", "--tracking-uri", "ftp://x"],
        "tracking_uri: expected sqlite:/// or http(s)://; got ftp://x",
    ),
    (
        ["status", "digits", "--tracking-uri", ""],
        "tracking_uri: expected sqlite:/// or http(s)://; got nothing",
    ),
    (
        ["status", "digits", "--tracking-uri", "sqlite:///none.db"],
        "no tracking store at none.db; run a sweep here first",
    ),
    (["status", "digits", "--tracking-uri", "sqlite:///junk.db"], f"{STORE} another file, junk.db"),
    (
        ["status", "digits", "--tracking-uri", "http://127.0.0.1:1"],
        (
            "tracker http://127.0.0.1:1 does not answer (ConnectionError); start it (mlflow "
            "server) or correct tracking_uri"
        ),
    ),
    (["aggregate", "nobody"], "no sweep named 'nobody' in sqlite:///mlflow.db; known: digits"),
    (["aggregate", "./nowhere"], "./nowhere: expected a folder of runs; got no such place"),
    (
        ["aggregate", "./folder"],
        (
            "folder: expected folders of a recorder, dynamics_epoch_0.jsonl of cartography or "
            "aum_values.csv of AUM; got none"
        ),
    ),
    (
        ["aggregate", "./file"],
        (
            "file: expected folders of a recorder, dynamics_epoch_0.jsonl of cartography or "
            "aum_values.csv of AUM; got none"
        ),
    ),
    (
        ["aggregate", "./strange"],
        "strange/a/spec.json: expected the spec of a run; got one without 'run'",
    ),
    (
        ["aggregate", "./twins"],
        "configuration 'default': expected one run of seed 0; got twins/a and twins/b",
    ),
    (
        ["aggregate", "./gap"],
        "gap: expected dynamics_epoch_0.jsonl and so on without a gap; got epochs 1",
    ),
    (
        ["aggregate", "digits", "--output", "out"],
        "--output: expected a PATH with it; got the sweep digits",
    ),
    (
        ["aggregate", "./runs", "--output", "file"],
        "--output: expected a folder that can be written into; got file: file is not a folder",
    ),
    (
        ["aggregate", "./runs", "--output", "file/x"],
        ("--output: expected a folder that can be written into; got file/x: file is not a folder"),
    ),
    (
        ["aggregate", "./runs", "--output", "runs/seed-0"],
        (
            "runs: expected folders of a recorder, dynamics_epoch_0.jsonl of cartography or "
            "aum_values.csv of AUM; got none"
        ),
    ),
    (
        ["aggregate", "./runs/seed-0", "--output", "runs/seed-0"],
        "--output: expected a folder for tables; got runs/seed-0, which holds a run",
    ),
    (
        ["aggregate", "./glue", "--output", "glue"],
        (
            "--output: expected a folder whose runs/ is free for the imported runs; got "
            "glue/runs with other files; give another folder"
        ),
    ),
    (
        ["aggregate", "digits", "--scores", "others.csv"],
        "mine.others: expected sample ids of these runs, such as …",
    ),
    (
        ["aggregate", "./runs", "--scores", "others.csv"],
        (
            "mine.others: expected sample ids of these runs, such as 0; got none of them, "
            "100000 first"
        ),
    ),
    (
        ["aggregate", "./runs", "--truth", "others.csv"],
        (
            "mine.others: expected sample ids of these runs, such as 0; got none of them, "
            "100000 first"
        ),
    ),
    (
        ["aggregate", "./runs", "--scores", "mine.csv", "--scores", "mine.csv"],
        "--scores: expected files of different names; got mine.mine twice",
    ),
    (
        ["aggregate", "./runs", "--truth", "mine.csv", "--truth", "mine.csv"],
        "--truth: expected files of different names; got mine.mine twice",
    ),
    (
        ["aggregate", "./runs", "--scores", "mine.csv", "--low-is-hard", "yours"],
        "--low-is-hard: unknown column 'yours' in --scores; known: mine",
    ),
    (
        ["aggregate", "./runs", "--low-is-hard", "mine"],
        "--low-is-hard: unknown column 'mine' in --scores; known: none",
    ),
    (["aggregate", "./runs", "--scores", "none.csv"], f"--scores: none.csv: {TABLE} no such file"),
    (["aggregate", "./runs", "--scores", "folder"], f"--scores: folder: {TABLE} a folder"),
    (
        ["aggregate", "./runs", "--scores", "nothing.csv"],
        f"--scores: nothing.csv: {TABLE} EmptyDataError: No columns…",
    ),
    (
        ["aggregate", "./runs", "--scores", "noid.csv"],
        "--scores: noid.csv: expected the columns sample_id; got id, mine",
    ),
    (
        ["aggregate", "./runs", "--scores", "twice.csv"],
        "--scores: twice.csv: expected each sample_id once; got 0 again",
    ),
    (
        ["aggregate", "./runs", "--scores", "text.csv"],
        "--scores: text.csv: expected numbers in column 'mine'; got text such as 'high'",
    ),
    (
        ["aggregate", "./runs", "--scores", "half.csv"],
        ("--scores: half.csv: expected whole numbers in sample_id; got fractions or empty cells"),
    ),
    (
        ["aggregate", "./runs", "--scores", "gap.csv"],
        ("--scores: gap.csv: expected whole numbers in sample_id; got fractions or empty cells"),
    ),
    (
        ["aggregate", "./runs", "--scores", "alone.csv"],
        "--scores: alone.csv: expected columns of scores beside sample_id; got none",
    ),
    (
        ["aggregate", "./runs", "--scores", "blank.csv"],
        "--scores: blank.csv: expected numbers in column 'mine'; got an empty column",
    ),
    (
        ["aggregate", "./runs", "--scores", "latin.csv"],
        f"--scores: latin.csv: {TABLE} bytes that are not UTF-8",
    ),
    (
        ["aggregate", "./runs", "--scores", "junk.parquet"],
        f"--scores: junk.parquet: {TABLE} ArrowInvalid: Could not open…",
    ),
    (
        ["aggregate", "./runs", "--scores", "scores.txt"],
        f"--scores: scores.txt: {TABLE} the ending '.txt'",
    ),
    (
        ["compare", "digits", "aum", "el2n", "--truth", "none.csv"],
        f"--truth: none.csv: {TABLE} no such file",
    ),
    (
        ["compare", "digits", "aum", "el2n", "--truth", "text.csv"],
        "--truth: text.csv: expected numbers in column 'mine'; got text such as 'high'",
    ),
    (
        ["compare", "digits", "aum", "el2n", "--truth", "blank.csv"],
        "--truth: blank.csv: expected numbers in column 'mine'; got an empty column",
    ),
    (
        ["compare", "digits", "aum", "el2n", "--truth", "noid.csv"],
        "--truth: noid.csv: expected the columns sample_id; got id, mine",
    ),
    (["compare", "digits"], "Missing argument 'METRIC… [TRUTH…]'; see sweep compare --help"),
    (["compare", "digits", "nonsense"], "unknown metric 'nonsense'; known: aum, …"),
    (["compare", "digits", "AUM", "el2n"], "unknown metric 'AUM'; known: aum, …"),
    (
        ["compare", "digits", "aum", "aum.contrastive"],
        "unknown metric 'aum.contrastive'; known: aum, …",
    ),
    (
        ["compare", "digits", "aum", "truth_noise_symmetric"],
        "unknown metric 'truth_noise_symmetric'; known: aum, …",
    ),
    (
        ["compare", "digits", "aum"],
        "compare: expected two metrics or more, or a metric and a truth; got 'aum' alone",
    ),
    (
        ["compare", "digits", "aum", "aum"],
        "compare: expected two metrics or more, or a metric and a truth; got 'aum' alone",
    ),
    (
        ["compare", "nobody", "aum", "el2n"],
        "no sweep named 'nobody' in sqlite:///mlflow.db; known: digits",
    ),
    (["compare", "digits", "aum", "mine.mine"], "unknown metric 'mine.mine'; known: aum, …"),
    (
        ["compare", "digits", "aum", "el2n", "--output", "x"],
        "--output: expected a PATH with it; got the sweep digits",
    ),
    (
        ["compare", "./runs", "nonsense", "aum.train"],
        "unknown metric 'nonsense'; known: cartography_confidence, …",
    ),
    (["prune", "digits"], "Missing option '--by'; see sweep prune --help"),
    (["prune", "digits", "--by"], "Option '--by' requires an argument"),
    (["prune", "digits", "--by", "nonsense"], "--by: unknown metric 'nonsense'; known: aum, …"),
    (
        ["prune", "digits", "--by", "aum", "--keep", "2"],
        "--keep: expected shares between 0 and 1; got 2",
    ),
    (
        ["prune", "digits", "--by", "aum", "--keep", "half"],
        "--keep: expected shares such as 0.9,0.7; got 'half'",
    ),
    (
        ["prune", "digits", "--by", "aum", "--keep", "nan"],
        "--keep: expected shares between 0 and 1; got nan",
    ),
    (
        ["prune", "digits", "--by", "aum", "--keep", ""],
        "--keep: expected shares such as 0.9,0.7; got ''",
    ),
    (
        ["prune", "digits", "--by", "aum", "--seeds", "0:3"],
        "--seeds: expected seeds that no score comes from; got 0",
    ),
    (
        ["prune", "digits", "--by", "aum", "--seeds", "1"],
        "--seeds: expected 2 seeds or more; got 1",
    ),
    (["prune", "digits", "--by", "aum", "--seeds", "x"], f"--seeds: {SEEDS} 'x'"),
    (["prune", "digits", "--by", "aum", "--seeds", "-1"], f"--seeds: {SEEDS} '-1'"),
    (
        ["prune", "digits", "--by", "aum", "--configuration", "zzz"],
        "--configuration: expected one of …",
    ),
    (
        ["prune", "nobody", "--by", "aum"],
        "no sweep named 'nobody' in sqlite:///mlflow.db; known: digits",
    ),
    (
        ["prune", "./runs", "--by", "aum"],
        "no sweep named './runs' in sqlite:///mlflow.db; known: digits",
    ),
    (
        ["metrics", "--plugin", "none.py"],
        ("--plugin: expected a readable Python file; got 'none.py': No such file or directory"),
    ),
    (
        ["metrics", "--plugin", "syntax.py"],
        "syntax.py: expected a plugin that loads; got SyntaxError: …",
    ),
    (
        ["metrics", "--format", "yaml"],
        (
            "Invalid value for '--format': 'yaml' is not one of 'table', 'json', 'csv'; see "
            "sweep metrics --help"
        ),
    ),
    (["metrics", "aum"], "Got unexpected extra argument (aum); see sweep metrics --help"),
    (["ui", "nobody"], "no sweep named 'nobody' in sqlite:///mlflow.db; known: digits"),
    (
        ["ui", "digits", "--port", "x"],
        "Invalid value for '--port': 'x' is not a valid integer range; see sweep ui --help",
    ),
    (
        ["ui", "digits", "--port", "0"],
        "Invalid value for '--port': 0 is not in the range 1<=x<=65535; see sweep ui --help",
    ),
    (
        ["ui", "digits", "--port", "65536"],
        ("Invalid value for '--port': 65536 is not in the range 1<=x<=65535; see sweep ui --help"),
    ),
]


def same(line, said):
    return line.startswith(said.removesuffix("…")) if said.endswith("…") else line == said


@pytest.mark.parametrize(("arguments", "said"), RUN)
def test_a_wrong_experiment_starts_nothing(refused, arguments, said):
    line = refused("run", "digits.yaml", *arguments)
    assert same(line, said), line


@pytest.mark.parametrize(("arguments", "said"), COMMANDS)
def test_a_wrong_command_starts_nothing(refused, arguments, said):
    line = refused(*arguments)
    assert same(line, said), line


def test_there_are_enough_of_them():
    assert len(RUN) + len(COMMANDS) >= 100
    assert len({tuple(a) for a, _ in RUN}) == len(RUN)
    assert len({tuple(a) for a, _ in COMMANDS}) == len(COMMANDS)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_told(finished, refused):
    (finished / "folder").chmod(0o500)
    try:
        line = refused("run", "digits.yaml", "storage_path=folder/sweeps")
    finally:
        (finished / "folder").chmod(0o700)
    assert line.endswith("folder cannot be written into")


def test_imported_runs_replace_those_of_before_and_nothing_else(finished, monkeypatch, tmp_path):
    """What stands in the way is refused above; what was made here may be made again."""
    from sweep.store.recorded_runs import gather

    shutil.copytree(finished / "glue", tmp_path / "glue")
    for _ in range(2):
        (run,) = gather(tmp_path / "glue", tmp_path / "tables").cells
        assert run.state == "done"
    assert (tmp_path / "glue" / "runs" / "mine.txt").exists()
    gather(tmp_path / "tables" / "runs", tmp_path / "tables")
    assert (tmp_path / "tables" / "runs" / "cartography-0" / "manifest.json").exists()


@pytest.mark.slow
class TestTheInstalledCommand:
    def run(self, folder, *arguments):
        environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        done = subprocess.run(
            [SWEEP, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done, sorted(p.name for p in folder.iterdir())

    def test_a_mistake_is_one_line(self, tmp_path):
        (tmp_path / "digits.yaml").write_text(GOOD)
        done, left = self.run(tmp_path, "run", "digits.yaml", "metrics=[aun]")
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("sweep: digits.yaml: metrics: unknown metric 'aun'; known: all, ")
        assert left == ["digits.yaml"]

    def test_the_same_experiment_without_a_mistake_is_accepted(self, tmp_path):
        # Else the refusals above would say nothing about the mistakes.
        (tmp_path / "digits.yaml").write_text(GOOD)
        done, left = self.run(tmp_path, "run", "digits.yaml", "--dry-run")
        assert done.returncode == 0, done.stderr
        assert "1 cells, 1 to train, in 1 packs" in done.stdout
        assert left == ["digits.yaml"]

    def test_no_command_at_all_is_told_which_there_are(self, tmp_path):
        done, left = self.run(tmp_path)
        assert (done.returncode, done.stdout, left) == (2, "", [])
        assert done.stderr.startswith("Usage: sweep [OPTIONS] COMMAND")
        assert "aggregate " in done.stderr
