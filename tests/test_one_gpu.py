"""experiments/one_gpu.py: a grid trained into folders on a machine without Ray and MLflow."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from sweep.store.recorded_runs import gather
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

EXPERIMENT = """
name: folders
dataset: {name: digits, subset: 120}
validation: {split: 0.2}
model: {name: mlp}
regimens:
  supervised:
    train: {max_epochs: 3, batch_size: 32}
seeds: 2
metrics: [aum, mean_loss]
resources: {checkpoint_seconds: 0}
"""
ABSENT = ("ray", "mlflow", "optuna", "matplotlib")


@pytest.fixture
def bare(tmp_path):
    """An environment in which the packages of sweeps on several machines cannot be imported."""
    for name in ABSENT:
        (tmp_path / "absent" / name).mkdir(parents=True)
        (tmp_path / "absent" / name / "__init__.py").write_text("raise ImportError(__name__)")
    return os.environ | {"PYTHONPATH": str(tmp_path / "absent")}


def python(bare, *arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=bare, capture_output=True, text=True, check=False)


def test_a_grid_is_trained_into_folders_that_can_be_aggregated_and_not_trained_twice(
    bare, tmp_path
):
    assert "ImportError: mlflow" in python(bare, "-c", "import sweep.store.mlflow_store").stderr
    (tmp_path / "folders.yaml").write_text(EXPERIMENT)
    script = (ROOT / "experiments" / "one_gpu.py", tmp_path / "folders.yaml")
    done = python(bare, *script, "--at-a-time", 2, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "96 images of digits"
    assert sorted(line.partition(":")[0] for line in lines[1:3]) == [
        "supervised seed 0", "supervised seed 1",
    ]  # fmt: skip
    assert all("s an epoch, scored in" in line and "train_loss " in line for line in lines[1:3])
    table = pd.read_csv(tmp_path / "out" / "one_gpu.csv")
    assert table["score"].tolist() == ["aum.supervised", "mean_loss.supervised"]
    assert table["runs"].tolist() == [2, 2]
    found = gather(tmp_path / "out" / "runs", tmp_path / "tables")
    assert [(c.state, c.trace.epochs) for c in found.cells] == [("done", 3)] * 2
    assert sorted(c.run.seed for c in found.cells) == [0, 1]
    assert {p.name for p in (tmp_path / "out" / "runs").rglob("*") if p.is_file()} == {
        "spec.json", "samples.parquet", "manifest.json", "epoch=init.parquet",
        *(f"epoch=000{epoch}.parquet" for epoch in range(3)), "epoch=0002.safetensors",
    }  # fmt: skip

    manifests = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("manifest.json")}
    done = python(bare, *script, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert {p: p.stat().st_mtime_ns for p in manifests} == manifests
