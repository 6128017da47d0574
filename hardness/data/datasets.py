"""Labelled image sets, every sample with its id: uint8 tensors, or files that are read on demand.

A ``sample_id`` is the sample's position in the untouched source (torchvision's order), whatever
subset or split it ends up in. The subset is drawn first, then split; ids ascend in the result.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

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
# What random numbers of samples are drawn for: each purpose has a stream of its own.
_SUBSET, _SPLIT = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """What a run trains and validates on.

    Args:
        name: As in the options.
        classes: Class names; a label is an index into them.
        train: Samples to train on.
        validation: The source's test set, whose ids start from 0 again, or a split of the
            training samples, whose ids are theirs.
        columns: Further facts about each training sample, in ``train``'s order: those of the
            source, each called ``source_<column>``, after the truth where something is planted.
        digest: The `content_digest` of the above.
        data_seed: That of the options. Whatever else has to be drawn alike for all runs, such as
            the batches that samples are scored in, is drawn from it.
        caches: Those of its images that are asked for, written or not.
        parts: Positions of training samples that some runs train on alone, by digest.
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


def load(
    options: DatasetOptions,
    validation: Literal["test"] | float | None = None,
    *,
    write_cache: bool = True,
) -> Dataset:
    """Read a dataset, decoding only the images that end up in it.

    Images that would take more than ``MEMORY_LIMIT_GIB`` stay on disk and are decoded whenever
    they are read, as RGB of ``image_size``; so are those of ``imagenet`` at any number.

    Args:
        options: Which dataset, and how much of it.
        validation: ``"test"`` for the source's own test set, always whole. A share for a split
            of the (possibly subset) training samples, stratified by class; where a class has
            two samples, it gives at least one and keeps at least one. If left out: ``"test"``
            where the source has a test set, else 0.1.
        write_cache: Write what is missing of the cache that the options name.

    Returns:
        The same for the same options and files, on every machine.

    Raises:
        ValueError: If the data is absent or unfit, the subset exceeds it, or the cache exceeds
            the free space.

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
    """SHA-256 over what is really trained and validated on; the place of the data plays no part.

    Of images on disk, reading all of which would take hours, it sees the files' names below the
    root, their sizes and how they are decoded, but no pixel: a file that is overwritten by another
    of the same size goes unnoticed.

    Args:
        classes: Class names.
        train: Samples to train on.
        validation: Samples to validate on.

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
    """The samples with their images to be read from a cache, if one is asked for."""
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
    """Share ``total`` among the classes by largest remainder; ties go to the lower class."""
    quotas, remainders = np.divmod(counts * total, counts.sum())
    largest = np.argsort(-remainders, kind="stable")[: total - quotas.sum()]
    quotas[largest] += 1
    return quotas


def _alike(train: Samples, test: Samples, name: str) -> tuple[Samples, Samples]:
    """Give both parts as many channels; sizes must agree by themselves."""
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
