"""Load labelled images with sample ids, as uint8 tensors or as files that are read on demand.

A ``sample_id`` is the sample's position in the unchanged source (torchvision's order), the same in
every subset and split. The subset is drawn first, then split. Ids ascend in the result.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int64
from torch import Tensor

from hardness.data.arrays import cifar10, cifar100, digits, mnist
from hardness.data.image_files import Cache, ImageFiles
from hardness.data.image_folders import imagefolder, imagenet
from hardness.data.options import DatasetOptions
from hardness.data.parquet import parquet
from hardness.data.source import (
    Ids,
    Labels,
    Part,
    Samples,
    Source,
    TooLargeError,
    first_of_each_class,
    size,
)
from hardness.seeding import raw_bits

_DEFAULT_SHARE = 0.1
# Keys of two random streams: one draws the subset, the other the split.
_SUBSET, _SPLIT = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """What a run trains and validates on.

    Args:
        name: Name of the dataset, as in the options.
        classes: Class names; a label is an index into them.
        train: Samples to train on.
        validation: Samples to validate on: the source's test set, whose ids start again from 0, or
            a split of the training samples, which keeps its ids.
        columns: Table with one row per training sample, in ``train``'s order. A column of the
            source is called ``source_<column>``. Columns about planting come first.
        digest: The `content_digest` of classes, train and validation.
        data_seed: Seed from the options. It also draws what must be the same in all runs, such as
            the batches in which samples are scored.
        caches: Requested caches of the images, written or not.
        parts: Positions of the training samples in each part, by the part's digest.
    """

    name: str
    classes: tuple[str, ...]
    train: Samples
    validation: Samples
    columns: pd.DataFrame
    digest: str
    data_seed: int = 0
    caches: tuple[Cache, ...] = ()
    parts: Mapping[str, Ids] = field(default_factory=dict)


def load_dataset(
    name: str, *, validation: Literal["test"] | float | None = None, **options: Any
) -> Dataset:
    """Read a dataset by its name, as ``dataset:`` of an experiment file names it.

    Args:
        name: Name of the dataset, such as ``digits`` or ``cifar10``.
        validation: Validation samples, as in ``load``.
        options: Further fields of ``DatasetOptions``, such as ``root`` and ``subset``.

    Raises:
        ValueError: If an option is out of range, or the data is missing or unsuitable.

    Example:
        >>> len(load_dataset("digits", subset=100, validation=0.2).train)
        80
    """
    return load(DatasetOptions(name=name, **options), validation)


def load(
    options: DatasetOptions,
    validation: Literal["test"] | float | None = None,
    *,
    write_cache: bool = True,
) -> Dataset:
    """Read a dataset; only images that are used are decoded.

    Images that would take more than ``MEMORY_LIMIT_GIB`` stay on disk and are decoded at each
    read, as RGB of ``image_size``. Images of ``imagenet`` always stay on disk.

    Args:
        options: Name, subset and further options of the dataset.
        validation: ``"test"`` for the whole test set of the source. A number for the share of the
            training samples (after the subset) that is split off, stratified by class: a class
            of two or more gives at least one and keeps at least one. If left out: ``"test"``
            where the source has a test set, else 0.1.
        write_cache: Whether to write the missing part of the requested cache.

    Returns:
        The same dataset for the same options and files, on every machine.

    Raises:
        ValueError: If the data is missing or unsuitable, the subset is larger than the data, or
            the cache is larger than the free space.

    Example:
        >>> digits = load(DatasetOptions(name="digits", subset=100), 0.2)
        >>> len(digits.train), len(digits.validation)
        (80, 20)
    """
    _check_validation(validation)
    source = _SOURCES[options.name](options)
    chosen = _samples(source.train, _subset(source.train.labels, options))
    chosen, caches = _with_cache(chosen, options)
    if validation is None:
        validation = "test" if source.test else _DEFAULT_SHARE
    if not isinstance(validation, str):
        train, held = _split(chosen, validation, options)
    elif source.test:
        test = source.test()
        on_disk = test.on_disk or isinstance(chosen.images, ImageFiles)
        held = _samples(dataclasses.replace(test, on_disk=on_disk), np.arange(len(test.labels)))
        held, more = _with_cache(held, options)
        train, held = _alike(chosen, held, options.name)
        caches += more
    else:
        raise ValueError(
            f"validation: expected a share such as 0.1, since {options.name} has no test set; "
            "got 'test'"
        )
    _check_space(caches)
    columns = pd.DataFrame(index=range(len(source.train.labels)))
    columns = columns if source.columns is None else source.columns
    dataset = Dataset(
        name=options.name,
        classes=source.classes,
        train=train,
        validation=held,
        columns=columns.iloc[train.sample_ids.numpy()].reset_index(drop=True),
        digest=content_digest(source.classes, train, held),
        data_seed=options.data_seed,
        caches=caches,
    )
    if write_cache:
        for cache in caches:
            cache.write()
    return dataset


def content_digest(classes: Sequence[str], train: Samples, validation: Samples) -> str:
    """SHA-256 of the samples to train and validate on, wherever they are stored.

    For images on disk, it covers file names below the root, file sizes and decoding settings, but
    no pixels, since reading all would take hours. So a file that is overwritten by another one of
    the same size goes unnoticed.

    Returns:
        64 hex digits over classes, shapes, dtypes, ids, labels and pixels or files.
    """
    arrays = [
        array
        for part in (train, validation)
        for array in (part.sample_ids, part.labels, part.images)
    ]
    shapes = [[_kind(array), *array.shape] for array in arrays]
    sha256 = hashlib.sha256(json.dumps([list(classes), shapes]).encode())
    for array in arrays:
        if isinstance(array, ImageFiles):
            sha256.update(array.digest().encode())
        else:
            sha256.update(array.cpu().contiguous().numpy().data)
    return sha256.hexdigest()


def _kind(array: Tensor | ImageFiles) -> str:
    if isinstance(array, ImageFiles):
        return "files"
    return str(array.dtype).removeprefix("torch.")


def _check_validation(validation: object) -> None:
    share = isinstance(validation, int | float) and 0 < validation < 1
    if not (share or validation is None or validation == "test"):
        raise ValueError(
            f'validation: expected "test" or a share between 0 and 1; got {validation!r}'
        )


def _samples(part: Part, ids: Ids) -> Samples:
    return Samples(
        images=_images(part, ids),
        labels=torch.from_numpy(part.labels[ids]),
        sample_ids=torch.from_numpy(ids),
    )


def _images(part: Part, ids: Ids) -> Tensor | ImageFiles:
    if part.on_disk and part.files is not None:
        return part.files(ids)
    try:
        return torch.from_numpy(np.ascontiguousarray(part.pixels(ids)))
    except TooLargeError:
        if part.files is None:
            raise
        return part.files(ids)


def _with_cache(samples: Samples, options: DatasetOptions) -> tuple[Samples, tuple[Cache, ...]]:
    """The samples and their cache; if one is asked for, their images are read from it."""
    folder = options.cache_place
    if folder is None or not isinstance(samples.images, ImageFiles):
        return samples, ()
    cache = Cache.of(samples.images, folder)
    return dataclasses.replace(samples, images=cache.images), (cache,)


def _check_space(caches: Sequence[Cache]) -> None:
    missing = sum(cache.missing_bytes for cache in caches)
    if caches and missing > caches[0].free_bytes:
        raise ValueError(
            f"cache: expected {missing / 2**30:.1f} GiB free at {caches[0].path.parent} for "
            f"{sum(len(cache.images) for cache in caches)} decoded images; "
            f"got {caches[0].free_bytes / 2**30:.1f} GiB"
        )


def _subset(labels: Labels, options: DatasetOptions) -> Ids:
    """Ids of the training samples to use, ascending."""
    if options.subset is None:
        return np.arange(len(labels))
    if options.subset > len(labels):
        raise ValueError(
            f"subset: expected at most the {len(labels)} training samples of {options.name}; "
            f"got {options.subset}"
        )
    quotas = _class_quotas(np.bincount(labels), options.subset)
    return first_of_each_class(labels, quotas, raw_bits(len(labels), options.data_seed, _SUBSET))


def _split(samples: Samples, share: float, options: DatasetOptions) -> tuple[Samples, Samples]:
    """Samples to train on, and the stratified share that is split off."""
    labels = samples.labels.numpy()
    counts = np.bincount(labels)
    quotas = _class_quotas(counts, round(share * len(labels)))
    quotas = np.clip(quotas, np.minimum(counts // 2, 1), np.maximum(counts - 1, 0))
    if not quotas.any():
        raise ValueError(
            "validation: expected a class of two samples to split; got none: take a larger subset"
        )
    # A sample's priority depends on its id alone, not on the subset around it.
    ids = samples.sample_ids.numpy()
    held = first_of_each_class(
        labels, quotas, raw_bits(int(ids[-1]) + 1, options.data_seed, _SPLIT)[ids]
    )
    rest = np.setdiff1d(np.arange(len(labels)), held, assume_unique=True)
    return samples.take(torch.from_numpy(rest)), samples.take(torch.from_numpy(held))


def _class_quotas(
    counts: Int64[np.ndarray, " classes"], total: int
) -> Int64[np.ndarray, " classes"]:
    """Distribute ``total`` over classes by largest remainder; ties go to the lower class."""
    quotas, remainders = np.divmod(counts * total, counts.sum())
    largest = np.argsort(-remainders, kind="stable")[: total - quotas.sum()]
    quotas[largest] += 1
    return quotas


def _alike(train: Samples, test: Samples, name: str) -> tuple[Samples, Samples]:
    """Give both parts the same number of channels; their image sizes must be equal already."""
    sizes = [tuple(part.images.shape[2:]) for part in (train, test)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"{name}: expected one image size; got {size(sizes[0])} in train and "
            f"{size(sizes[1])} in test"
        )
    channels = max(part.images.shape[1] for part in (train, test))
    return _with_channels(train, channels), _with_channels(test, channels)


def _with_channels(samples: Samples, channels: int) -> Samples:
    # Files are RGB already.
    if samples.images.shape[1] == channels or isinstance(samples.images, ImageFiles):
        return samples
    return dataclasses.replace(samples, images=samples.images.repeat(1, channels, 1, 1))


_SOURCES: dict[str, Callable[[DatasetOptions], Source]] = {
    "digits": digits,
    "mnist": mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "parquet": parquet,
    "imagefolder": imagefolder,
    "imagenet": imagenet,
}
