"""Checkpoints: whole or absent, and enough to go on to the same bits."""

import errno
import os
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy

from hardness import checkpoint as module
from hardness.checkpoint import Checkpoint, capture, load, newest_first, save

OPTIMIZERS = {
    "plain sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "sgd with momentum": lambda parameters: torch.optim.SGD(
        parameters, lr=0.1, momentum=0.9, nesterov=True
    ),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
}


def fresh(name, seed=0):
    """A small network with buffers, and its optimizer."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    return network, OPTIMIZERS[name](network.parameters())


def steps(network, optimizer, numbers):
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        x = torch.randn(16, 4, generator=generator)
        y = torch.randint(3, (16,), generator=generator)
        optimizer.zero_grad()
        cross_entropy(network(x), y).backward()
        optimizer.step()


def assert_equal_bits(one, other):
    assert one.epoch == other.epoch
    assert one.tensors.keys() == other.tensors.keys()
    for name, tensor in one.tensors.items():
        assert tensor.dtype == other.tensors[name].dtype
        assert torch.equal(tensor, other.tensors[name]), name


def some(epoch=7):
    return Checkpoint(epoch=epoch, tensors={"module.weight": torch.arange(1000.0)})


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_from_the_file_to_the_same_bits(tmp_path, name):
    network, optimizer = fresh(name)
    steps(network, optimizer, range(3))
    path = save(capture(2, network, optimizer), tmp_path)
    steps(network, optimizer, range(3, 6))

    resumed, resumed_optimizer = fresh(name, seed=1)
    load(path).restore(resumed, resumed_optimizer)
    steps(resumed, resumed_optimizer, range(3, 6))
    assert_equal_bits(capture(5, network, optimizer), capture(5, resumed, resumed_optimizer))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_file_gives_back_what_was_captured(tmp_path, name):
    network, optimizer = fresh(name)
    steps(network, optimizer, range(2))
    captured = capture(12, network, optimizer)
    path = save(captured, tmp_path / "new" / "folder")
    assert path.name == "epoch=0012.safetensors"
    assert_equal_bits(load(path), captured)


def test_optimizers_with_memory_have_it_captured():
    kinds = {}
    for name in OPTIMIZERS:
        network, optimizer = fresh(name)
        steps(network, optimizer, range(1))
        tensors = capture(0, network, optimizer).tensors
        kinds[name] = {key.split(".")[2] for key in tensors if key.startswith("optimizer.")}
    assert kinds == {
        "plain sgd": set(),
        "sgd with momentum": {"momentum_buffer"},
        "adamw": {"step", "exp_avg", "exp_avg_sq"},
    }


def test_further_training_leaves_a_captured_state_alone():
    network, optimizer = fresh("sgd with momentum")
    steps(network, optimizer, range(1))
    captured = capture(0, network, optimizer)
    before = {name: tensor.clone() for name, tensor in captured.tensors.items()}
    steps(network, optimizer, range(1, 3))
    assert_equal_bits(captured, Checkpoint(epoch=0, tensors=before))
    assert not torch.equal(captured.tensors["module.0.weight"], network[0].weight)


def test_another_network_is_refused():
    network, optimizer = fresh("adamw")
    captured = capture(0, network, optimizer)
    with pytest.raises(RuntimeError, match="size mismatch"):
        captured.restore(nn.Sequential(nn.Linear(4, 5)), optimizer)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.999])
def test_a_file_cut_short_is_none(tmp_path, share):
    path = save(some(), tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert load(path) is None
    path.write_bytes(content)
    assert load(path).epoch == 7


def test_what_is_not_one_of_ours_is_none(tmp_path):
    for name, content in (("text", b"not a checkpoint, but long enough for a header"), ("0", b"")):
        (tmp_path / name).write_bytes(content)
        assert load(tmp_path / name) is None
    for name, metadata in (("bare", None), ("negative", {"epoch": "-2"}), ("x", {"epoch": "x"})):
        save_file(dict(some().tensors), tmp_path / name, metadata=metadata)
        assert load(tmp_path / name) is None
    (tmp_path / "folder").mkdir()
    assert load(tmp_path / "folder") is None
    assert load(tmp_path / "absent") is None


def test_a_full_disk_leaves_the_older_file_whole_and_no_part_of_the_new(tmp_path, monkeypatch):
    older = save(some(), tmp_path)
    content = older.read_bytes()

    def full(_tensors, path, **_):
        path.write_bytes(content[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "save_file", full)
    for epoch in (7, 8):
        with pytest.raises(OSError, match=re.escape(os.strerror(errno.ENOSPC))):
            save(some(epoch), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [older.name]
    assert older.read_bytes() == content


def test_saving_again_replaces(tmp_path):
    save(some(), tmp_path)
    save(Checkpoint(epoch=7, tensors={"module.bias": torch.ones(2)}), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch=0007.safetensors"]
    assert load(tmp_path / "epoch=0007.safetensors").tensors.keys() == {"module.bias"}


def test_the_newest_comes_first_by_number_not_by_name(tmp_path):
    for epoch in (9, -1, 10_000, 10, 9_999, 0):
        save(some(epoch), tmp_path)
    for stray in ("epoch=0011.partial", "epoch=12.safetensors", "epoch=0013.safetensors.bak"):
        (tmp_path / stray).touch()
    found = newest_first(tmp_path)
    assert [epoch for epoch, _ in found] == [10_000, 9_999, 10, 9, 0, -1]
    assert all(load(path).epoch == epoch for epoch, path in found)


def test_a_folder_that_is_not_there_has_no_checkpoints(tmp_path):
    assert newest_first(tmp_path / "absent") == []
