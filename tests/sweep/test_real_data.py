"""MNIST and CIFAR-10 with their real images through the whole job."""

import re

import pandas as pd
import pytest

from tests.conftest import SHARED_DATA
from tests.sweep.sweeps import FEW, command

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

TOO_FEW_EPOCHS = re.compile(
    r"(msd|feature_norm|lgn)_discrepancy(\..+)?|lgn_std(\..+)?|el2n\.e(5|10|20)|vog\.(early|late)"
)
FILES = {
    "mnist": (
        SHARED_DATA / "mnist" / "MNIST" / "raw" / "train-images-idx3-ubyte",
        f"dataset: {{name: mnist, root: {SHARED_DATA / 'mnist'}, subset: 2000}}",
    ),
    "cifar10": (
        SHARED_DATA / "cifar10" / "train.parquet",
        f"dataset: {{name: parquet, root: {SHARED_DATA / 'cifar10'}, subset: 2000}}",
    ),
}
# Every metric once, scored in one epoch: a scoring pass takes as long as several epochs.
METRICS = {"mnist": FEW, "cifar10": "all"}


@pytest.mark.parametrize("name", FILES)
def test_two_thousand_images_three_epochs_two_seeds(name, workdir):
    needed, dataset = FILES[name]
    if not needed.exists():
        pytest.skip(f"needs the real {name} at {needed}")
    path = workdir / f"{name}.yaml"
    path.write_text(
        f"name: {name}\n{dataset}\nvalidation: {{split: 0.1}}\n"
        "model: {name: small_cnn, width: 8}\n"
        "regimens:\n"
        "  supervised: {train: {max_epochs: 3, batch_size: 64, lr: 0.05}}\n"
        "  contrastive: {train: {max_epochs: 3, batch_size: 256}}\n"
        f"seeds: 2\nmetrics: {METRICS[name]}\nscore_epochs: [-1]\n"
    )
    code, out, err = command("run", path)
    assert code == 0, err
    print(out)
    table = pd.read_csv(workdir / "sweeps" / name / "stability.csv")
    undefined = table.loc[table["samples"] != 1800, ["metric", "samples"]]
    # Three epochs are too few for some: each of these scores nobody, and the notes name it.
    assert (undefined["samples"] == 0).all()
    assert all(TOO_FEW_EPOCHS.fullmatch(key) for key in undefined["metric"])
    notes = pd.read_csv(workdir / "sweeps" / name / "notes.csv")["note"].str.cat(sep=" ")
    assert all(key in notes for key in undefined["metric"])
    assert (table["runs"] == 2).all()
    # Two runs of a network that learns agree better than chance on who is hard.
    by_key = table[table["regimen"] == "supervised"].set_index("metric")["spearman_pair_mean"]
    assert by_key["mean_loss"] > 0.3
    samples = pd.read_parquet(workdir / "sweeps" / name / "samples.parquet")
    assert samples["sample_id"].max() > 40_000
    images = [p.name for p in (workdir / "sweeps" / name / "figures").iterdir()]
    assert any(i.startswith("images_") for i in images)
