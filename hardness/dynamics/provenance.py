"""Versions and hardware on which a run's exact bits may depend."""

import importlib.metadata
import platform
from typing import Any

import torch


def circumstances(device: torch.device) -> dict[str, Any]:
    """Versions of packages, the device, and the vector instructions of the CPU."""
    packages = ("torch", "torchvision", "numpy", "pillow", "hardness-sweep")
    versions = {name: importlib.metadata.version(name) for name in packages}
    gpu = device.type == "cuda"
    return {
        "versions": {"python": platform.python_version(), **versions},
        "device": torch.cuda.get_device_name(device) if gpu else platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
