"""A user's mistakes at the real command: one line, exit code 2, and nothing left behind."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow

SWEEP = Path(sys.executable).with_name("sweep")
GOOD = """
name: digits
dataset: {name: digits, subset: 60}
validation: {split: 0.2}
model: {name: mlp, width: 4}
regimens: {supervised: {train: {max_epochs: 1}}}
seeds: 1
"""


def command(folder, *arguments):
    """Run the installed command in a folder; its exit code, output, and what it left there."""
    before = sorted(folder.rglob("*"))
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
    left = [p for p in sorted(folder.rglob("*")) if p not in before]
    return done, left


def refused(folder, *arguments):
    """The one line of a refused command."""
    done, left = command(folder, *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("sweep: ")
    assert left == []
    return line.removeprefix("sweep: ")


@pytest.fixture
def folder(tmp_path):
    """A folder with a good experiment file and nothing else."""
    (tmp_path / "digits.yaml").write_text(GOOD)
    return tmp_path


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "regimens.supervised.train.epoch=3",
            (
                "digits.yaml: unknown key 'epoch' in 'regimens."
                "supervised.train'; known: batch_size, compile, "
            ),
        ),
        ("metrics=[aum, aun]", "digits.yaml: metrics: unknown metric 'aun'; known: all, "),
        ("dataset.name=cifar", "digits.yaml: dataset: unknown dataset 'cifar'; known: digits, "),
        (
            "regimens.supervised.train.max_epochs=true",
            (
                "digits.yaml: regimens.supervised.train."
                "max_epochs: expected a whole number; came true"
            ),
        ),
        (
            "regimens.supervised.train.lr=-1",
            ("digits.yaml: regimens.supervised.train.lr: expected a positive number; came -1.0"),
        ),
        ("seeds=[]", "digits.yaml: seeds: expected at least one seed; came []"),
        (
            "seeds={min: 6, max: 20, until: {metric: image_entropy, reliability: 0.9}}",
            (
                "digits.yaml: seeds.until.metric: expected a metric of single runs, which seeds "
                "change; came 'image_entropy', which is computed from the images"
            ),
        ),
        (
            "dataset.subset=2000",
            ("dataset: subset: expected at most the 1797 training samples of digits; came 2000"),
        ),
        ("tracking_uri=http://127.0.0.1:1", "tracker http://127.0.0.1:1 does not answer "),
    ],
)
def test_a_wrong_experiment_starts_nothing(folder, override, said):
    assert refused(folder, "run", "digits.yaml", override).startswith(said)


def test_a_missing_file_starts_nothing(tmp_path):
    said = "none.yaml: expected an experiment file; there is none"
    assert refused(tmp_path, "run", "none.yaml") == said


def test_a_dataset_without_labels_starts_nothing(folder):
    images = pa.array([{"bytes": b"", "path": ""}] * 3)
    pq.write_table(pa.table({"image": images, "age": np.arange(3)}), folder / "train.parquet")
    line = refused(folder, "run", "digits.yaml", "dataset={name: parquet, root: train.parquet}")
    assert line.startswith("dataset: ")
    assert line.endswith(
        "train.parquet: expected a column 'label' with the labels; came image, age"
    )


def test_an_unknown_sweep_is_told_and_no_store_is_made(tmp_path):
    line = refused(tmp_path, "status", "digits")
    assert line == f"no tracking store at {tmp_path / 'mlflow.db'}; run a sweep here first"


def test_an_unknown_command_is_told_in_one_line(tmp_path):
    assert "No such command 'train'" in refused(tmp_path, "train")


def test_the_same_experiment_without_a_mistake_is_accepted(folder):
    # Else the refusals above would say nothing about the mistakes.
    done, left = command(folder, "run", "digits.yaml", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "1 cells, 1 to train, in 1 packs" in done.stdout
    assert left == []
