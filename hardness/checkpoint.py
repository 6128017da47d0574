"""The state of a half-trained run on disk: safetensors, never pickle, and only for resuming."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

# Epoch -1 is the state before training.
_NAME = re.compile(r"epoch=(-001|[0-9]{4,})\.safetensors")
_EPOCH = re.compile(r"-1|[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """Everything that training needs to go on after ``epoch`` to the same bits.

    Random state is absent on purpose: streams are derived from the epoch's number, and the
    learning rate from the step's.
    """

    epoch: int
    tensors: Mapping[str, torch.Tensor]

    def restore(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put weights, buffers and the optimizer's state back in place.

        Raises:
            RuntimeError: If the tensors belong to another network.
        """
        weights = {k.removeprefix("module."): v for k, v in self._part("module.")}
        module.load_state_dict(weights)
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in self._part("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})

    def _part(self, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
        return ((k, v) for k, v in self.tensors.items() if k.startswith(prefix))


def capture(epoch: int, module: nn.Module, optimizer: torch.optim.Optimizer) -> Checkpoint:
    """Copy the state after ``epoch`` to host memory, detached from further training."""
    tensors = {f"module.{k}": v for k, v in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{index}.{key}": value
            for key, value in state.items()
            if isinstance(value, torch.Tensor)
        }
    copies = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    return Checkpoint(epoch=epoch, tensors=copies)


def save(checkpoint: Checkpoint, folder: Path) -> Path:
    """Write ``folder/epoch=0007.safetensors`` so that it exists whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"epoch={checkpoint.epoch:04d}.safetensors"
    partial = target.with_suffix(".partial")
    try:
        save_file(dict(checkpoint.tensors), partial, metadata={"epoch": str(checkpoint.epoch)})
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def load(path: Path) -> Checkpoint | None:
    """Read one checkpoint; None if the file is cut short or not one of ours."""
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            epoch = (file.metadata() or {}).get("epoch", "")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        return None
    return Checkpoint(epoch=int(epoch), tensors=tensors) if _EPOCH.fullmatch(epoch) else None


def newest_first(folder: Path) -> list[tuple[int, Path]]:
    """Epochs and files of the checkpoints in ``folder``, the newest first."""
    if not folder.is_dir():
        return []
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted(((int(m.group(1)), path) for m, path in found if m), reverse=True)
