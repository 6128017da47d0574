"""Checkpoints: whole or absent, and enough to go on to the same bits."""

import errno
import os
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy

from hardness.dynamics import checkpoint as checkpoints
from hardness.dynamics.checkpoint import Checkpoint, capture, load, newest_first, save, weights

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

    monkeypatch.setattr(checkpoints, "save_file", full)
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


def assert_same_kept(one, other):
    assert one.kept.keys() == other.kept.keys()
    for epoch, tensors in one.kept.items():
        assert tensors.keys() == other.kept[epoch].keys()
        assert all(torch.equal(tensor, other.kept[epoch][k]) for k, tensor in tensors.items())


def growing(tmp_path, epochs=4):
    """Checkpoints of a training that keeps the weights of every second epoch, as it saved them."""
    network, optimizer = fresh("adamw")
    kept, found = {}, []
    for epoch in range(epochs):
        steps(network, optimizer, [epoch])
        if epoch % 2 == 0:
            kept[epoch] = weights(network)
        found.append(capture(epoch, network, optimizer, kept=kept))
        save(found[-1], tmp_path)
    return found


def test_kept_weights_come_back_with_every_checkpoint_that_had_them(tmp_path):
    captured = growing(tmp_path)
    assert [[*one.kept] for one in captured] == [[0], [0], [0, 2], [0, 2]]
    for one in captured:
        found = load(tmp_path / f"epoch={one.epoch:04d}.safetensors")
        assert_equal_bits(found, one)
        assert_same_kept(found, one)
    old, new = (captured[-1].kept[epoch]["0.weight"] for epoch in (0, 2))
    assert not torch.equal(old, new)


def test_kept_weights_are_copies_of_parameters_and_buffers():
    network, optimizer = fresh("plain sgd")
    steps(network, optimizer, [0])
    found = weights(network)
    before = {name: tensor.clone() for name, tensor in found.items()}
    assert found.keys() == network.state_dict().keys() >= {"1.running_mean"}
    steps(network, optimizer, [1])
    assert all(torch.equal(found[name], tensor) for name, tensor in before.items())
    assert not torch.equal(found["1.running_mean"], network[1].running_mean)


def test_kept_weights_are_written_once_and_are_no_checkpoints(tmp_path):
    growing(tmp_path, epochs=2)
    (beside,) = tmp_path.glob("weights=*")
    written = beside.stat().st_mtime_ns
    captured = growing(tmp_path)
    assert beside.stat().st_mtime_ns == written
    names = sorted(path.name for path in tmp_path.glob("weights=*"))
    assert names == ["weights=0000.safetensors", "weights=0002.safetensors"]
    assert [epoch for epoch, _ in newest_first(tmp_path)] == [3, 2, 1, 0]
    assert load(tmp_path / names[0]) is None
    assert_same_kept(load(tmp_path / "epoch=0003.safetensors"), captured[-1])


@pytest.mark.parametrize("share", [None, 0.0, 0.01, 0.5, 0.999])
def test_without_its_kept_weights_a_checkpoint_is_none_until_they_are_saved_again(tmp_path, share):
    """None of those that keep them, that is; older ones can be gone on from."""
    captured = growing(tmp_path)
    beside = tmp_path / "weights=0002.safetensors"
    content = beside.read_bytes()
    if share is None:
        beside.unlink()
    else:
        beside.write_bytes(content[: int(share * len(content))])
    found = [load(path) for _, path in newest_first(tmp_path)]
    assert [one.epoch if one else None for one in found] == [None, None, 1, 0]
    save(captured[3], tmp_path)
    assert beside.read_bytes() == content
    assert_same_kept(load(tmp_path / "epoch=0003.safetensors"), captured[3])


@pytest.mark.parametrize("kept", ["x", "0 x", "-2", "../0", "0 1"])
def test_a_file_that_names_no_weights_of_ours_is_none(tmp_path, kept):
    growing(tmp_path, epochs=1)
    save_file(dict(some().tensors), tmp_path / "other", metadata={"epoch": "7", "kept": "0"})
    assert [*load(tmp_path / "other").kept] == [0]
    save_file(dict(some().tensors), tmp_path / "other", metadata={"epoch": "7", "kept": kept})
    assert load(tmp_path / "other") is None


def test_a_disk_that_is_full_at_the_kept_weights_leaves_no_checkpoint_without_them(
    tmp_path, monkeypatch
):
    captured = growing(tmp_path / "whole")[-1]

    def full(_tensors, path, **_):
        path.write_bytes(b"part")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.ENOSPC))):
        save(captured, tmp_path / "full")
    assert [*(tmp_path / "full").iterdir()] == []


def test_what_is_carried_comes_back_by_its_name(tmp_path):
    network, optimizer = fresh("adamw")
    carried = {
        "val_loss": torch.tensor([0.5, 1.5], dtype=torch.float64),
        "deep.name": torch.ones(3),
    }
    path = save(capture(0, network, optimizer, carried=carried), tmp_path)
    carried["val_loss"][0] = 9.0  # of the epoch after
    found = load(path).carried()
    assert found.keys() == {"val_loss", "deep.name"}
    assert found["val_loss"].dtype == torch.float64
    assert found["val_loss"].tolist() == [0.5, 1.5]
    resumed, resumed_optimizer = fresh("adamw", seed=1)
    load(path).restore(resumed, resumed_optimizer)
    assert torch.equal(resumed[0].weight, network[0].weight)
    assert capture(0, network, optimizer).carried() == {}
