"""Datasets that are read into memory whole: digits, MNIST, CIFAR-10 and CIFAR-100."""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from hardness.data.options import DatasetOptions
from hardness.data.source import Images, Part, Source
from hardness.files import UNREADABLE, one_line


def digits(_options: DatasetOptions) -> Source:
    """Scikit-learn's digits; an intensity v in 0..16 becomes floor((255 v + 8) / 16), in 0..255."""
    # Imported here, because the import takes more than a second and only digits need it.
    from sklearn.datasets import load_digits  # noqa: PLC0415

    bunch = load_digits()
    images = ((bunch.images.astype(np.int64) * 255 + 8) // 16).astype(np.uint8)
    return Source(
        classes=tuple(map(str, bunch.target_names)),
        train=_array_part(bunch.target, images[:, None]),
    )


def _array_part(labels: Any, images: Images) -> Part:
    return Part(labels=np.asarray(labels, dtype=np.int64), pixels=lambda ids: images[ids])


def mnist(options: DatasetOptions) -> Source:
    """MNIST, read by torchvision."""

    def part(train: bool) -> tuple[Any, Part]:
        data = _fetched("MNIST", "MNIST/raw", options, train)
        return data, _array_part(data.targets, data.data.numpy()[:, None])

    return _torchvision(part)


def _cifar(name: str, folder: str, options: DatasetOptions) -> Source:
    def part(train: bool) -> tuple[Any, Part]:
        data = _fetched(name, folder, options, train)
        return data, _array_part(data.targets, data.data.transpose(0, 3, 1, 2))

    return _torchvision(part)


def cifar10(options: DatasetOptions) -> Source:
    """CIFAR-10, read by torchvision."""
    return _cifar("CIFAR10", "cifar-10-batches-py", options)


def cifar100(options: DatasetOptions) -> Source:
    """CIFAR-100, read by torchvision."""
    return _cifar("CIFAR100", "cifar-100-python", options)


def _torchvision(part: Callable[[bool], tuple[Any, Part]]) -> Source:
    data, train = part(True)
    return Source(classes=tuple(data.classes), train=train, test=lambda: part(False)[1])


def _fetched(name: str, folder: str, options: DatasetOptions, train: bool) -> Any:
    from torchvision import datasets  # noqa: PLC0415 - loads slower than torch itself

    try:
        return getattr(datasets, name)(options.place, train=train, download=options.download)
    except (RuntimeError, AssertionError, struct.error, *UNREADABLE) as error:
        advice = "`download: true` fetches them"
        if options.download:
            advice = f"fetching failed: {one_line(error)}"
        raise ValueError(
            f"{options.name}: expected its files in {options.place / folder}; got none or damaged "
            f"ones; {advice}"
        ) from error
