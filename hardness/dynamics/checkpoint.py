"""The state of an unfinished run on disk, for resuming: safetensors, never pickle."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from hardness.files import atomic_write

# Epoch -1 is the state before training.
_NAME = re.compile(r"epoch=(-001|[0-9]{4,})\.safetensors")
_EPOCH = re.compile(r"-1|[0-9]{1,9}")
_NO_CHECKPOINT = (SafetensorError, OSError, ValueError, TypeError, LookupError, MemoryError)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """Everything that training needs to resume after ``epoch`` with bit-identical results.

    Random state is not stored: random streams are derived from the epoch's number, and the
    learning rate from the number of the step.

    Args:
        epoch: The last finished epoch.
        tensors: Tensors of the module, the optimizer, and whatever else training carries along.
        kept: Weights of earlier epochs that the training still needs, by epoch.
    """

    epoch: int
    tensors: Mapping[str, torch.Tensor]
    kept: Mapping[int, Mapping[str, torch.Tensor]] = field(default_factory=dict)

    def restore(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Load weights, buffers and the optimizer's state from the checkpoint.

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

    def carried(self) -> dict[str, torch.Tensor]:
        """The further tensors that were passed to ``capture``, under the same names."""
        return {k.removeprefix("carried."): v for k, v in self._part("carried.")}

    def _part(self, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
        return ((k, v) for k, v in self.tensors.items() if k.startswith(prefix))


def capture(
    epoch: int,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    carried: Mapping[str, torch.Tensor] | None = None,
    kept: Mapping[int, Mapping[str, torch.Tensor]] | None = None,
) -> Checkpoint:
    """Copy the state after ``epoch`` to host memory, so that training cannot change it.

    Args:
        epoch: The last finished epoch.
        module: The module in training.
        optimizer: Optimizer of the module's parameters.
        carried: Further tensors that change from epoch to epoch.
        kept: Weights of earlier epochs, from ``weights``; they are not copied again.
    """
    tensors = {f"module.{k}": v for k, v in module.state_dict().items()}
    tensors |= {f"carried.{k}": v for k, v in (carried or {}).items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{index}.{key}": value
            for key, value in state.items()
            if isinstance(value, torch.Tensor)
        }
    return Checkpoint(epoch=epoch, tensors=_copies(tensors), kept=dict(kept or {}))


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of a module's parameters and buffers in host memory."""
    return _copies(module.state_dict())


def _copies(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}


def save(checkpoint: Checkpoint, folder: Path) -> Path:
    """Write ``folder/epoch=0007.safetensors``; an interrupted write leaves no file.

    Kept weights are written once, each to its own file, ``weights=0003.safetensors``.
    """
    for epoch, kept in checkpoint.kept.items():
        # A truncated file would make this checkpoint and all later ones unusable.
        if not _whole(beside := _kept_file(folder, epoch)):
            _write(kept, beside, {})
    target = folder / f"epoch={checkpoint.epoch:04d}.safetensors"
    kept_epochs = " ".join(map(str, sorted(checkpoint.kept)))
    _write(checkpoint.tensors, target, {"epoch": str(checkpoint.epoch), "kept": kept_epochs})
    return target


def _write(tensors: Mapping[str, torch.Tensor], target: Path, metadata: dict[str, str]) -> None:
    with atomic_write(target) as partial:
        save_file(dict(tensors), partial, metadata=metadata)


def load(path: Path) -> Checkpoint | None:
    """Read one checkpoint; None if one of its files is missing, truncated or malformed."""
    found = _read(path)
    if found is None:
        return None
    metadata, tensors = found
    epoch, kept_epochs = metadata.get("epoch", ""), metadata.get("kept", "").split()
    if not all(_EPOCH.fullmatch(text) for text in (epoch, *kept_epochs)):
        return None
    kept = {int(text): _read(_kept_file(path.parent, int(text))) for text in kept_epochs}
    if None in kept.values():
        return None
    return Checkpoint(
        epoch=int(epoch),
        tensors=tensors,
        kept={of: one[1] for of, one in kept.items() if one is not None},
    )


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]] | None:
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, tensors
    except _NO_CHECKPOINT:
        return None


def _whole(path: Path) -> bool:
    """Whether a file exists and is as long as its header says; reads the header alone."""
    try:
        with safe_open(os.fspath(path), framework="pt"):
            return True
    except _NO_CHECKPOINT:
        return False


def _kept_file(folder: Path, epoch: int) -> Path:
    return folder / f"weights={epoch:04d}.safetensors"


def newest_first(folder: Path) -> list[tuple[int, Path]]:
    """Epoch and file of every checkpoint in ``folder``, newest first."""
    if not folder.is_dir():
        return []
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted(((int(m.group(1)), path) for m, path in found if m), reverse=True)
