"""A folder in ImageNet's layout, left on disk, through the whole job; what its size rules out."""

import dataclasses
import re

import pandas as pd
import pytest
import torch
import torchvision

from hardness import limits
from hardness.metrics.registry import METRICS
from sweep.execution import driver, status
from sweep.experiment import check, sections, yaml_file
from sweep.planning import search, statements
from tests.photographs import TRAIN, write_imagenet
from tests.sweep.sweeps import cells, command

EXPERIMENT = """
name: photographs
dataset: {{name: imagenet, root: {root}, image_size: 24, cache: {cache}}}
validation: test
model: {{name: small_cnn, width: 4}}
regimens:
  supervised: {{train: {{max_epochs: 2, batch_size: 32, lr: 0.05}}, augmentation: {{flip: 0.5}}}}
  contrastive: {{train: {{max_epochs: 1, batch_size: 64}}}}
seeds: 2
"""
IMAGENET = (1_281_167, 1000, 3, 224, 224)
NEIGHBORS = "neighbors come from a fixed 200,000 of the 1,281,167 samples"


def experiment(folder, root, cache):
    path = folder / "photographs.yaml"
    path.write_text(EXPERIMENT.format(root=root, cache=cache))
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_folder_in_imagenets_layout_is_swept_from_disk(workdir, monkeypatch):
    root = write_imagenet(workdir / "data", train=8, val=2)
    path = experiment(workdir, root, workdir / "cache")
    # As if so few samples were many.
    monkeypatch.setattr(limits, "LARGE", 95)
    monkeypatch.setattr(limits, "LOGITS_GIB", 0)
    off = "off: vog, vog_prob, vog_class_z: two input gradients at each of 10 checkpoints, "
    rough = "approximated: prototypicality: k-means in mini-batches, started once"

    code, out, err = command("run", path, "--dry-run")
    assert code == 0, err
    assert "photographs: imagenet, 96 samples of 3x24x24, 12 classes, 24 for validation" in out
    assert re.search(r"on disk: 120 files, 0\.00 GiB, decoded \d+ at a time", out)
    cache = f"cache: 0.00 GiB in {workdir / 'cache'}, 0.00 GiB to be written; "
    for line in (cache, off, rough, "4 cells, 4 to train"):
        assert line in out
    assert not (workdir / "cache").exists()

    code, out, err = command("run", path)
    assert code == 0, err
    assert f"decoding 96 images once into {workdir / 'cache'}" in err
    assert f"note: {off}" in out
    assert f"note: {rough}" in out
    assert "prototypicality ≈" in out
    assert "prototypicality.contrastive ≈" in out
    assert out.count("≈: approximated at this size, as the notes say.") == 3
    folder = workdir / "sweeps" / "photographs"
    stability = pd.read_csv(folder / "stability.csv", keep_default_na=False)
    assert {"aum", "msd_mean", "prototypicality", "lof", "grand"} <= {*stability["metric"]}
    assert not stability["metric"].str.startswith(("vog", "ensemble")).any()
    why = stability.set_index("metric")["approximated"]
    assert {*why["prototypicality"]} == {"k-means in mini-batches, started once"}
    assert why["aum"] == ""
    agreement = pd.read_csv(folder / "agreement.csv", keep_default_na=False)
    assert {"image_entropy", "prototypicality.contrastive"} <= {*agreement["left"]}
    marked = agreement.set_index("left")["approximated_left"]
    assert {*marked["prototypicality.contrastive"]} == {"k-means in mini-batches, started once"}
    assert {*marked["image_entropy"]} == {""}
    notes = pd.read_csv(folder / "notes.csv")["note"]
    assert notes.str.startswith(off).any()
    assert [p for p in (folder / "figures").iterdir() if p.name.startswith("images_")]

    store, sweep = cells("photographs")
    assert [cell.state for cell in sweep.cells] == ["done"] * 4
    for cell in sweep.cells:
        objectives = cell.trace.objectives
        supervised = cell.run.configuration.regimen == "supervised"
        assert ("val_accuracy_top5" in objectives) == supervised
        if supervised:
            assert objectives["val_accuracy"] <= objectives["val_accuracy_top5"] <= 1
        assert "logits" not in cell.trace.signals
    parents = [store.client.get_run(k.tracking_run).data for k in store.configurations()]
    assert sum("val_accuracy_top5_mean" in parent.metrics for parent in parents) == 1

    # Where the images come from is no part of a run's identity.
    code, out, err = command("run", experiment(workdir, root, "false"), "--no-aggregate")
    assert code == 0, err
    assert "4 of 4 cells are done already" in err


def sized(size, **changes):
    content = {
        "name": "big",
        "dataset": {"name": "imagenet", "root": "."},
        "regimens": {"supervised": {}, "contrastive": {}},
        **changes,
    }
    spec = check.check(content, "big.yaml")
    return dataclasses.replace(spec, dataset_digest="0" * 64, dataset_size=size)


class TestStatements:
    def test_a_small_dataset_needs_none(self):
        spec = sized((50_000, 10, 3, 32, 32))
        assert statements.statements(spec, []) == []
        assert spec.needs.approximated == {}
        assert spec.needs.ruled_out == set()
        assert spec.needs.metrics == (*METRICS,)

    def test_imagenet_says_everything_that_falls_short(self):
        spec = sized(IMAGENET)
        kinds = [line.split(": ")[:2] for line in statements.statements(spec, [])]
        assert [kind for kind, _ in kinds] == ["approximated", "approximated", "off", "off", "off"]
        (neighbors, prototypes, vog, pixels, logits) = (names for _, names in kinds)
        assert {"knn_distance", "lid_mle", "lof"} <= {*neighbors.split(", ")}
        assert prototypes == "prototypicality"
        assert "vog" in vog.split(", ")
        assert pixels == "lid_mle_pixels"
        assert {"last logits", "ensemble_mi"} <= {*logits.split(", ")}
        off = {key for key in METRICS if key not in spec.needs.metrics}
        assert {"vog", "vog.early", "lid_mle_pixels", "ensemble_mi"} <= off
        assert not off & {"knn_distance", "prototypicality", "aum", "image_entropy"}
        assert spec.needs.approximated["knn_distance.kth"] == NEIGHBORS
        assert spec.needs.ruled_out == {"logits", "holdout_probs"}
        assert "vog" not in spec.needs.passes["supervised"]

    def test_what_is_asked_for_by_name_is_done(self):
        spec = sized(IMAGENET, metrics=["vog", "aum"])
        assert spec.needs.metrics == ("vog", "aum")
        assert "vog" in spec.needs.passes["supervised"]
        assert not any("vog" in line for line in statements.statements(spec, []))
        kept = sized(IMAGENET, keep={"logits": "last"})
        assert kept.needs.ruled_out == set()
        assert "ensemble_mi" in kept.needs.metrics

    def test_what_the_regimens_do_not_record_is_not_mentioned(self):
        spec = sized(IMAGENET, regimens={"contrastive": {}})
        assert not any(
            "vog" in line or "logits" in line for line in statements.statements(spec, [])
        )

    def test_it_stays_with_the_sweep(self):
        content = {"name": "big", "dataset": {"name": "digits"}, "regimens": {"supervised": {}}}
        kept = {**content, "dataset_digest": "0" * 64, "dataset_size": [*IMAGENET]}
        assert check.check(kept, "stored").dataset_size == IMAGENET


class TestPretrained:
    @pytest.fixture
    def spec(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        root = write_imagenet(tmp_path / "data", train=2, val=1)
        content = {
            "name": "start",
            "dataset": {"name": "imagenet", "root": str(root), "image_size": 32},
            "model": {"name": "resnet18"},
            "regimens": {
                "supervised": {
                    "train": {"max_epochs": 1},
                    "parameters": {"model.pretrained": {"values": [False, True]}},
                }
            },
        }
        return check.check(content, "start.yaml")

    def test_the_weights_are_said_and_part_of_the_identity(self, spec):
        spec, _ = driver.load(spec)
        fresh, started = search.proposals(spec, [], {})
        assert "pretrained" not in fresh.configuration.model
        assert started.configuration.model["pretrained"] == "IMAGENET1K_V1"
        assert statements.statements(spec, [fresh]) == []
        (line,) = statements.statements(spec, [fresh, started])
        assert line.startswith("pretrained: resnet18 starts from torchvision's IMAGENET1K_V1, ")

    def test_they_are_fetched_before_anything_is_trained(self, spec):
        spec, dataset = driver.load(spec)
        (model,) = statements.pretrained(search.proposals(spec, [], {}))
        model.weights_file.parent.mkdir(parents=True)
        model.weights_file.write_bytes(b"damaged")
        with pytest.raises(sections.ExperimentError, match=r"^model: .* to be whole; "):
            driver.prepare(spec, dataset)
        torch.save(torchvision.models.resnet18().state_dict(), model.weights_file)
        assert driver.prepare(spec, dataset).digest == dataset.digest


def test_the_estimate_trains_on_some_of_the_images(tmp_path, monkeypatch):
    root = write_imagenet(tmp_path / "data", classes=3, val=30)
    path = experiment(tmp_path, root, "false")
    spec, dataset = driver.load(check.check(yaml_file.read(path), str(path)))
    monkeypatch.setattr(driver, "MEASURED", 0)
    some, share = driver._some(dataset)
    assert share == pytest.approx(64 / (3 * TRAIN))
    assert len(some.train) == 64
    assert len(some.validation) == 64
    assert {*some.train.labels.tolist()} == {0, 1, 2}
    sweep = status.look(spec, None)
    assert driver.estimate(spec, dataset, sweep.cells) > 0
