"""Labelled image sets, every sample with its id: uint8 tensors, or files that are read on demand.

A ``sample_id`` is the sample's position in the untouched source (torchvision's order), whatever
subset or split it ends up in. The subset is drawn first, then split; ids ascend in the result.
"""

import dataclasses
import hashlib
import json
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from jaxtyping import Int64, UInt8, UInt64
from torch import Tensor

from hardness.files import UNREADABLE, group_sizes, one_line
from hardness.images import Cache, ImageFiles, Picture, contents, decoded, decoding_threads
from hardness.options import DatasetOptions
from hardness.seeding import raw_bits

MEMORY_LIMIT_GIB = 8.0
IMAGENET_SIZE = 224
# What a source says beside images and labels bears this prefix, so that no column is taken for
# one of ours; numbers of classes among them are no degrees of hardness.
SOURCE = "source_"
_DEFAULT_SHARE = 0.1
_MAX_CLASSES = 100_000
_IMAGE_COLUMNS = ("img", "image")
# What random numbers of samples are drawn for: each purpose has a stream of its own.
_SUBSET, _SPLIT = 0, 1
_MOMENTS = 2

T = TypeVar("T")
_Ids = Int64[np.ndarray, " ids"]
_Labels = Int64[np.ndarray, " samples"]
_Images = UInt8[np.ndarray, "images channels height width"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Images with labels and ids, in one order.

    Args:
        images: 0 is black, 255 full intensity. A tensor, or files that are decoded on demand.
        labels: Indices of the classes trained on.
        sample_ids: Positions in the untouched source, ascending.
    """

    images: UInt8[Tensor, "samples channels height width"] | ImageFiles
    labels: Int64[Tensor, " samples"]
    sample_ids: Int64[Tensor, " samples"]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Int64[Tensor, " rows"]) -> "Samples":
        """Copies of the samples at these positions (not ids); files stay unread."""
        if isinstance(self.images, ImageFiles):
            images: Tensor | ImageFiles = self.images.take(rows)
        else:
            images = self.images[rows]
        return Samples(images=images, labels=self.labels[rows], sample_ids=self.sample_ids[rows])

    def read(self, rows: Int64[Tensor, " rows"]) -> UInt8[Tensor, "rows channels height width"]:
        """Images of the samples at these positions (not ids), in memory."""
        if isinstance(self.images, ImageFiles):
            return self.images.read(rows)
        return self.images[rows]


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
    parts: Mapping[str, _Ids] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """One part of a source: its labels at hand, its images read on demand.

    Args:
        labels: All of them.
        pixels: Images ``[ids, channels, height, width]`` of the given ascending ids.
        files: The same images left on disk; None where that cannot be.
        on_disk: Never to be held in memory as a whole.
    """

    labels: _Labels
    pixels: Callable[[_Ids], _Images]
    files: Callable[[_Ids], ImageFiles] | None = None
    on_disk: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Source:
    """An untouched dataset; the test part is opened only where asked for."""

    classes: tuple[str, ...]
    train: _Part
    test: Callable[[], _Part] | None = None
    columns: pd.DataFrame | None = None


class _TooLargeError(ValueError):
    """Images would take more memory than ``MEMORY_LIMIT_GIB``."""


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


# From a source to samples: subset, split, agreement of the two parts


def _check_validation(validation: object) -> None:
    share = isinstance(validation, int | float) and 0 < validation < 1
    if not (share or validation is None or validation == "test"):
        raise ValueError(
            f'validation: expected "test" or a share between 0 and 1; got {validation!r}'
        )


def _samples(part: _Part, ids: _Ids) -> Samples:
    return Samples(
        images=_images(part, ids),
        labels=torch.from_numpy(part.labels[ids]),
        sample_ids=torch.from_numpy(ids),
    )


def _images(part: _Part, ids: _Ids) -> Tensor | ImageFiles:
    if part.on_disk and part.files is not None:
        return part.files(ids)
    try:
        return torch.from_numpy(np.ascontiguousarray(part.pixels(ids)))
    except _TooLargeError:
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


def _subset(labels: _Labels, options: DatasetOptions) -> _Ids:
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


def first_of_each_class(
    labels: Int64[np.ndarray, " samples"],
    quotas: Int64[np.ndarray, " classes"],
    priorities: UInt64[np.ndarray, " samples"],
) -> Int64[np.ndarray, " chosen"]:
    """Ascending positions of each class's ``quotas[class]`` samples of lowest priority.

    Args:
        labels: Of all samples to choose from.
        quotas: How many to take of each class; all, where there are no more.
        priorities: A random number for each sample.

    Returns:
        The same samples in any order that the others come in, and more of them for a larger quota.
    """
    order = np.lexsort((priorities, labels))
    ordered = labels[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return np.sort(order[rank < quotas[ordered]])


def _alike(train: Samples, test: Samples, name: str) -> tuple[Samples, Samples]:
    """Give both parts as many channels; sizes must agree by themselves."""
    sizes = [tuple(part.images.shape[2:]) for part in (train, test)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"{name}: expected one image size; got {_size(sizes[0])} in train and "
            f"{_size(sizes[1])} in test"
        )
    channels = max(part.images.shape[1] for part in (train, test))
    return _with_channels(train, channels), _with_channels(test, channels)


def _with_channels(samples: Samples, channels: int) -> Samples:
    # Files are RGB already.
    if samples.images.shape[1] == channels or isinstance(samples.images, ImageFiles):
        return samples
    return dataclasses.replace(samples, images=samples.images.repeat(1, channels, 1, 1))


# Sources that are arrays already


def _digits(_options: DatasetOptions) -> _Source:
    """Scikit-learn's digits: intensity 0..16 becomes floor((255 v + 8) / 16), so 0..255."""
    # Imported here, because it costs more than a second that other datasets need not pay.
    from sklearn.datasets import load_digits  # noqa: PLC0415

    bunch = load_digits()
    images = ((bunch.images.astype(np.int64) * 255 + 8) // 16).astype(np.uint8)
    return _Source(
        classes=tuple(map(str, bunch.target_names)),
        train=_array_part(bunch.target, images[:, None]),
    )


def _array_part(labels: Any, images: _Images) -> _Part:
    return _Part(labels=np.asarray(labels, dtype=np.int64), pixels=lambda ids: images[ids])


def _mnist(options: DatasetOptions) -> _Source:
    def part(train: bool) -> tuple[Any, _Part]:
        data = _fetched("MNIST", "MNIST/raw", options, train)
        return data, _array_part(data.targets, data.data.numpy()[:, None])

    return _torchvision(part)


def _cifar(name: str, folder: str, options: DatasetOptions) -> _Source:
    def part(train: bool) -> tuple[Any, _Part]:
        data = _fetched(name, folder, options, train)
        return data, _array_part(data.targets, data.data.transpose(0, 3, 1, 2))

    return _torchvision(part)


def _cifar10(options: DatasetOptions) -> _Source:
    return _cifar("CIFAR10", "cifar-10-batches-py", options)


def _cifar100(options: DatasetOptions) -> _Source:
    return _cifar("CIFAR100", "cifar-100-python", options)


def _torchvision(part: Callable[[bool], tuple[Any, _Part]]) -> _Source:
    data, train = part(True)
    return _Source(classes=tuple(data.classes), train=train, test=lambda: part(False)[1])


def _fetched(name: str, folder: str, options: DatasetOptions, train: bool) -> Any:
    from torchvision import datasets  # noqa: PLC0415 - with its networks, longer than torch itself

    try:
        return getattr(datasets, name)(options.place, train=train, download=options.download)
    except (RuntimeError, AssertionError, struct.error, *UNREADABLE) as error:
        why = "and `download: true` fetches them"
        if options.download:
            why = f"and could not be fetched: {one_line(error)}"
        raise ValueError(
            f"{options.name}: expected its files in {options.place / folder}; they are absent or "
            f"damaged, {why}"
        ) from error


# Parquet in the layout of Hugging Face


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Shards:
    """The rows of one or more parquet files, read as one table.

    Args:
        files: In the order of their rows.
        schema: Of the first file.
    """

    files: Sequence[Path]
    schema: pa.Schema

    def columns(self, names: Sequence[str]) -> pa.Table:
        """These columns of all files."""
        return pa.concat_tables(
            self._read(f, lambda file: file.read(list(names))) for f in self.files
        )

    def _read(self, path: Path, read: Callable[[pq.ParquetFile], T]) -> T:
        try:
            file = pq.ParquetFile(path)
            group_sizes(file.metadata)
            return read(file)
        except UNREADABLE as error:
            raise ValueError(
                f"{path}: expected a whole parquet file; got {one_line(error)}"
            ) from error

    def image_column(self) -> str:
        """Name of the struct that holds the encoded images."""
        for name in _IMAGE_COLUMNS:
            index = self.schema.get_field_index(name)
            if index >= 0 and _holds_bytes(self.schema.field(index).type):
                return name
        raise ValueError(
            f"{self.files[0]}: expected a column {' or '.join(_IMAGE_COLUMNS)} with `bytes`; "
            f"got {', '.join(self.schema.names)}"
        )

    def encoded(self, ids: _Ids) -> Iterator[tuple[str, bytes | None]]:
        """Name and encoded image of each of the ascending ids, a row group in memory at once."""
        name, first = self.image_column(), 0
        for path in self.files:
            sizes = self._read(path, lambda file: group_sizes(file.metadata))
            for group, size in enumerate(sizes):
                last = first + size
                rows = ids[slice(*np.searchsorted(ids, (first, last)))]
                if len(rows):
                    images = self._read(path, partial(_bytes_of, name, group))["bytes"]
                    data = images.take(pa.array(rows - first))
                    names = [f"{self.files[0].parent}, row {row}" for row in rows]
                    yield from zip(names, data.to_pylist(), strict=True)
                first = last


def _shards(files: Sequence[Path]) -> _Shards:
    try:
        return _Shards(files=files, schema=pq.read_schema(files[0]))
    except UNREADABLE as error:
        raise ValueError(f"{files[0]}: expected a parquet file; got {one_line(error)}") from error


def _bytes_of(name: str, group: int, file: pq.ParquetFile) -> pa.Table:
    """The encoded images of one row group."""
    images = file.read_row_group(group, columns=[f"{name}.bytes"])[name]
    return pa.table({"bytes": pc.struct_field(images, "bytes")})


def _holds_bytes(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind) or (index := kind.get_field_index("bytes")) < 0:
        return False
    held = kind.field(index).type
    return pa.types.is_binary(held) or pa.types.is_large_binary(held)


def _holds_numbers(kind: pa.DataType) -> bool:
    lists = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    return lists and (pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type))


def _one_a_class(shards: _Shards, name: str, n_classes: int) -> bool:
    """Whether every row's list may be people's votes for the classes."""
    lengths = pc.list_value_length(shards.columns([name])[name])
    return bool(pc.all(pc.equal(lengths, n_classes), skip_nulls=False).as_py())


def _parquet(options: DatasetOptions) -> _Source:
    shards = _shards(_parquet_files(options.place, "train"))
    labels = _labels(shards, options.label_column)
    n_classes = int(labels.max()) + 1
    extra = [
        f.name
        for f in shards.schema
        if (pa.types.is_integer(f.type) and f.name != options.label_column)
        or (_holds_numbers(f.type) and _one_a_class(shards, f.name, n_classes))
    ]
    table = shards.columns(extra).to_pandas(ignore_metadata=True) if extra else None
    has_test = options.place.is_dir() and _parquet_files(options.place, "test", needed=False)
    return _Source(
        classes=tuple(map(str, range(n_classes))),
        train=_Part(labels=labels, pixels=lambda ids: _stacked(shards, ids)),
        test=(lambda: _parquet_test(options, n_classes)) if has_test else None,
        columns=None if table is None else table.add_prefix(SOURCE),
    )


def _parquet_test(options: DatasetOptions, n_classes: int) -> _Part:
    shards = _shards(_parquet_files(options.place, "test"))
    labels = _labels(shards, options.label_column)
    unknown = np.flatnonzero(labels >= n_classes)
    if len(unknown):
        raise ValueError(
            f"{shards.files[0]}: expected labels below {n_classes}, as in train; "
            f"got {labels[unknown[0]]} in row {unknown[0]}"
        )
    return _Part(labels=labels, pixels=lambda ids: _stacked(shards, ids))


def _stacked(shards: _Shards, ids: _Ids) -> _Images:
    pictures = ((name, decoded(name, data)) for name, data in shards.encoded(ids))
    return _stack(pictures, len(ids), str(shards.files[0].parent))


def _parquet_files(place: Path, part: str, *, needed: bool = True) -> list[Path]:
    """The file itself, ``<part>.parquet``, or all of ``<part>-00000-of-00002.parquet``."""
    if place.is_file():
        return [place]
    if (place / f"{part}.parquet").is_file():
        return [place / f"{part}.parquet"]
    name = re.compile(rf"{part}-\d+-of-(\d+)\.parquet")
    found = [m for path in place.glob(f"{part}-*.parquet") if (m := name.fullmatch(path.name))]
    if found and any(int(m[1]) != len(found) for m in found):
        raise ValueError(
            f"{place}: expected {int(found[0][1])} files of {part}, as {found[0][0]} says; "
            f"got {len(found)}"
        )
    if needed and not found:
        raise ValueError(
            f"{place}: expected a parquet file, or a folder with {part}.parquet or "
            f"{part}-00000-of-00001.parquet; got neither"
        )
    return sorted(place / m[0] for m in found)


def _labels(shards: _Shards, column: str) -> _Labels:
    """The labels, checked: integers, none missing, none negative."""
    index = shards.schema.get_field_index(column)
    if index < 0:
        raise ValueError(
            f"{shards.files[0]}: expected a column {column!r} with the labels; "
            f"got {', '.join(shards.schema.names)}"
        )
    if not pa.types.is_integer(kind := shards.schema.field(index).type):
        raise ValueError(f"{shards.files[0]}: expected integers in {column!r}; got {kind}")
    values = shards.columns([column])[column]
    labels = values.cast(pa.int64()).fill_null(-1).to_numpy()
    if not len(labels):
        raise ValueError(f"{shards.files[0]}: expected samples; got no rows")
    bad = np.flatnonzero((labels < 0) | (labels >= _MAX_CLASSES))
    if len(bad):
        got = values[int(bad[0])].as_py()
        raise ValueError(
            f"{shards.files[0]}: expected labels from 0 to {_MAX_CLASSES - 1} in {column!r}; "
            f"got {'null' if got is None else got} in row {bad[0]}"
        )
    return labels


# Folders of images, one a class


def _imagefolder(options: DatasetOptions) -> _Source:
    place = options.place
    train = place / "train" if (place / "train").is_dir() else place
    classes, index = _classes(train, f"{place}: expected images in train/<class>/ or <class>/")
    tests = [place / name for name in ("val", "test")] if train != place else []
    test = next((path for path in tests if _class_folders(path)), None)
    _check_cache_folder(options, train)
    return _Source(
        classes=tuple(classes),
        train=_folder_part(train, index, options),
        test=(lambda: _folder_test(test, index, options)) if test else None,
    )


def _imagenet(options: DatasetOptions) -> _Source:
    """ImageNet as torchvision and PyTorch's examples have it; all images stay on disk."""
    options = dataclasses.replace(options, image_size=options.image_size or IMAGENET_SIZE)
    train, val = options.place / "train", options.place / "val"
    classes, index = _classes(train, f"{options.place}: expected images in train/<wnid>/")
    _check_cache_folder(options, train)

    def test() -> _Part:
        if not _class_folders(val):
            raise ValueError(
                f"{val}: expected its images sorted into val/<wnid>/, as train is; got them all "
                "in one folder. Sort them by the development kit's ground truth, or say "
                "validation: {split: 0.05}"
            )
        return dataclasses.replace(_folder_test(val, index, options), on_disk=True)

    has_val = val.is_dir() and any(val.iterdir())
    return _Source(
        classes=tuple(classes),
        train=dataclasses.replace(_folder_part(train, index, options), on_disk=True),
        test=test if has_val else None,
    )


def _classes(folder: Path, expected: str) -> tuple[list[str], dict[str, int]]:
    from torchvision.datasets.folder import find_classes  # noqa: PLC0415 - as above

    try:
        return find_classes(folder)
    except OSError as error:
        # torchvision's own line where there are no folders, the system's where there is no place.
        got = f"{error.strerror}: {error.filename}" if error.strerror else str(error)
        raise ValueError(f"{expected}; got: {got}") from error


def _class_folders(folder: Path) -> bool:
    return any(path.is_dir() for path in folder.glob("*"))


def _check_cache_folder(options: DatasetOptions, train: Path) -> None:
    folder = options.cache_place
    if folder is not None and folder.is_relative_to(train):
        raise ValueError(f"cache: expected a folder outside {train}, whose folders are classes")


def _folder_test(folder: Path, index: dict[str, int], options: DatasetOptions) -> _Part:
    from torchvision.datasets.folder import find_classes  # noqa: PLC0415 - as above

    unknown = sorted(set(find_classes(folder)[0]) - set(index))
    if unknown:
        raise ValueError(f"{folder}: expected the classes of train; got also {unknown[0]!r}")
    part = _folder_part(folder, index, options, allow_empty=True)
    if not len(part.labels):
        raise ValueError(f"{folder}: expected images in <class>/; got none")
    return part


def _folder_part(
    folder: Path, index: dict[str, int], options: DatasetOptions, *, allow_empty: bool = False
) -> _Part:
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset  # noqa: PLC0415 - as above

    try:
        found = make_dataset(folder, index, extensions=IMG_EXTENSIONS, allow_empty=allow_empty)
    except FileNotFoundError as error:
        raise ValueError(f"{folder}: expected images in every <class>/; {error}") from error
    place, size = options.place, options.image_size
    threads = options.decode_threads or decoding_threads()

    def pixels(ids: _Ids) -> _Images:
        names = [found[i][0] for i in ids]
        pictures = _read_in_threads(names, size, threads)
        advice = "; set image_size, to read them from disk" if size is None else ""
        return _stack(pictures, len(ids), str(place), sizes="; set image_size", memory=advice)

    def files(ids: _Ids) -> ImageFiles:
        assert size is not None
        names = [found[i][0] for i in ids]
        with ThreadPoolExecutor(threads) as pool:  # a network's answers take longer than asking
            sizes = np.fromiter(pool.map(os.path.getsize, names, chunksize=256), np.int64)
        return ImageFiles(
            root=place,
            names=np.array([os.fsencode(os.path.relpath(name, place)) for name in names]),
            sizes=sizes,
            ids=ids,
            priorities=raw_bits(len(found), options.data_seed, _MOMENTS)[ids],
            image_size=size,
            threads=threads,
        )

    return _Part(
        labels=np.array([label for _, label in found], dtype=np.int64),
        pixels=pixels,
        files=None if size is None else files,
    )


def _read_in_threads(
    names: Sequence[str], image_size: int | None, threads: int, block: int = 256
) -> Iterator[tuple[str, Picture]]:
    """Name and pixels of each file; blocks bound how far the threads run ahead."""

    def picture(name: str) -> tuple[str, Picture]:
        return name, decoded(name, contents(Path(name)), image_size)

    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(names), block):
            yield from pool.map(picture, names[first : first + block])


# From encoded images to one array


def _stack(
    pictures: Iterable[tuple[str, Picture]], n: int, place: str, sizes: str = "", memory: str = ""
) -> _Images:
    """One array of ``n`` pictures of one size; grey becomes RGB where any is RGB.

    ``sizes`` and ``memory`` say what to do about too many of them.
    """
    stack, read = np.empty((0, 0, 0, 0), dtype=np.uint8), 0
    for row, (name, picture) in enumerate(pictures):
        if row == 0:
            _check_memory(n, picture.shape, place, memory)
            stack = np.empty((n, *picture.shape), dtype=np.uint8)
        if picture.shape[1:] != stack.shape[2:]:
            raise ValueError(
                f"{name}: expected one image size, {_size(stack.shape[2:])} as in the first "
                f"image; got {_size(picture.shape[1:])}{sizes}"
            )
        if len(picture) > stack.shape[1]:
            _check_memory(n, picture.shape, place, memory)
            stack = np.repeat(stack, len(picture), axis=1)
        stack[row] = picture  # a grey picture is broadcast to all three channels
        read += 1
    if read != n:
        raise ValueError(f"{place}: expected {n} images, as many as labels; got {read}")
    return stack


def _check_memory(n: int, shape: tuple[int, ...], place: str, advice: str) -> None:
    gib = n * float(np.prod(shape, dtype=float)) / 2**30
    if gib > MEMORY_LIMIT_GIB:
        advice = advice or ". Take a subset or smaller images"
        raise _TooLargeError(
            f"{place}: expected images that take at most {MEMORY_LIMIT_GIB:g} GiB decoded; "
            f"got {n} of {_size(shape[1:])} pixels, {gib:.3g} GiB{advice}"
        )


def _size(shape: Sequence[int]) -> str:
    height, width = shape
    return f"{width}x{height}"


_SOURCES: dict[str, Callable[[DatasetOptions], _Source]] = {
    "digits": _digits,
    "mnist": _mnist,
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "parquet": _parquet,
    "imagefolder": _imagefolder,
    "imagenet": _imagenet,
}
