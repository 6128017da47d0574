"""Labelled image sets as uint8 tensors, every sample with its id.

A ``sample_id`` is the sample's position in the untouched source (torchvision's order), whatever
subset or split it ends up in. The subset is drawn first, then split; ids ascend in the result.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
import torchvision
from jaxtyping import Int64, UInt8, UInt64
from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset
from torchvision.transforms import functional

MEMORY_LIMIT_GIB = 8.0
_DEFAULT_SHARE = 0.1
_MAX_CLASSES = 100_000
_IMAGE_COLUMNS = ("img", "image")
# The raster formats behind torchvision's extensions: others that PIL reads start programs.
_FORMATS = ("JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP")

_Ids = Int64[np.ndarray, " ids"]
_Labels = Int64[np.ndarray, " samples"]
_Images = UInt8[np.ndarray, "images channels height width"]
_Picture = UInt8[np.ndarray, "channels height width"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetOptions:
    """What an experiment file says under ``dataset:``.

    Args:
        name: ``digits``, ``mnist``, ``cifar10``, ``cifar100``, ``parquet`` or ``imagefolder``.
        root: File or folder that holds the data, ``~`` allowed; a place, so not part of a run's
            identity. ``data``, if left out; ``parquet`` and ``imagefolder`` need one.
        download: Fetch ``mnist``, ``cifar10`` or ``cifar100`` into ``root`` if absent.
        subset: This many training samples, stratified by class; all, if left out.
        data_seed: Draws the subset, the split and the batches that samples are scored in.
        label_column: Column of a ``parquet`` source that holds the labels.
        image_size: Resize the shorter side of an ``imagefolder``'s images to this many pixels
            and crop the centre; needed where sizes differ.

    Raises:
        ValueError: If the name is unknown, a number is out of range, or an option does not
            belong to that dataset.

    Example:
        >>> DatasetOptions(name="digits", subset=500).data_seed
        0
    """

    name: str
    root: str | None = None
    download: bool = False
    subset: int | None = None
    data_seed: int = 0
    label_column: str = "label"
    image_size: int | None = None

    def __post_init__(self) -> None:
        if self.name not in _SOURCES:
            raise ValueError(f"unknown dataset {self.name!r}; known: {', '.join(_SOURCES)}")
        for key, value in (("subset", self.subset), ("image_size", self.image_size)):
            if value is not None and value < 1:
                raise ValueError(f"{key}: expected at least 1; came {value}")
        if self.data_seed < 0:
            raise ValueError(f"data_seed: expected at least 0; came {self.data_seed}")
        if self.root is None and self.name in ("parquet", "imagefolder"):
            raise ValueError(f"{self.name}: expected a root, the place of the data; came none")
        self._belongs("download", self.download, "mnist", "cifar10", "cifar100")
        self._belongs("label_column", self.label_column != "label", "parquet")
        self._belongs("image_size", self.image_size is not None, "imagefolder")

    def _belongs(self, key: str, given: bool, *names: str) -> None:
        if given and self.name not in names:
            raise ValueError(f"{key}: expected only with {', '.join(names)}; came with {self.name}")

    @property
    def place(self) -> Path:
        """``root`` as an absolute path."""
        return Path(self.root or "data").expanduser().absolute()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Images with labels and ids, in one order.

    Args:
        images: 0 is black, 255 full intensity.
        labels: Indices of the classes trained on.
        sample_ids: Positions in the untouched source, ascending.
    """

    images: UInt8[Tensor, "samples channels height width"]
    labels: Int64[Tensor, " samples"]
    sample_ids: Int64[Tensor, " samples"]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Int64[Tensor, " rows"]) -> "Samples":
        """Copies of the samples at these positions (not ids)."""
        return Samples(
            images=self.images[rows], labels=self.labels[rows], sample_ids=self.sample_ids[rows]
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """What a run trains and validates on.

    Args:
        name: As in the options.
        classes: Class names; a label is an index into them.
        train: Samples to train on.
        validation: The source's test set, whose ids start from 0 again, or a split of the
            training samples, whose ids are theirs.
        columns: Further facts about each training sample, in ``train``'s order, each called
            ``truth_<column>``; no columns where the source has none.
        digest: The `content_digest` of the above.
        data_seed: That of the options. Whatever else has to be drawn alike for all runs, such as
            the batches that samples are scored in, is drawn from it.
    """

    name: str
    classes: tuple[str, ...]
    train: Samples
    validation: Samples
    columns: pd.DataFrame
    digest: str
    data_seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """One part of a source: its labels at hand, its images read on demand.

    Args:
        labels: All of them.
        pixels: Images ``[ids, channels, height, width]`` of the given ascending ids.
    """

    labels: _Labels
    pixels: Callable[[_Ids], _Images]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Source:
    """An untouched dataset; the test part is opened only where asked for."""

    classes: tuple[str, ...]
    train: _Part
    test: Callable[[], _Part] | None = None
    columns: pd.DataFrame | None = None


def load(options: DatasetOptions, validation: Literal["test"] | float | None = None) -> Dataset:
    """Read a dataset, decoding only the images that end up in it.

    Args:
        options: Which dataset, and how much of it.
        validation: ``"test"`` for the source's own test set, always whole. A share for a split
            of the (possibly subset) training samples, stratified by class; where a class has
            two samples, it gives at least one and keeps at least one. If left out: ``"test"``
            where the source has a test set, else 0.1.

    Returns:
        The same for the same options and files, on every machine.

    Raises:
        ValueError: If the data is absent or unfit, or the subset exceeds it.

    Example:
        >>> digits = load(DatasetOptions(name="digits", subset=100), 0.2)
        >>> len(digits.train), len(digits.validation)
        (80, 20)
    """
    _check_validation(validation)
    source = _SOURCES[options.name](options)
    chosen = _samples(source.train, _subset(source.train.labels, options))
    if validation is None:
        validation = "test" if source.test else _DEFAULT_SHARE
    if not isinstance(validation, str):
        train, held = _split(chosen, validation, options)
    elif source.test:
        test = source.test()
        train, held = _alike(chosen, _samples(test, np.arange(len(test.labels))), options.name)
    else:
        raise ValueError(
            f"validation: expected a share such as 0.1, since {options.name} has no test set; "
            "came 'test'"
        )
    columns = pd.DataFrame(index=range(len(source.train.labels)))
    columns = columns if source.columns is None else source.columns
    return Dataset(
        name=options.name,
        classes=source.classes,
        train=train,
        validation=held,
        columns=columns.iloc[train.sample_ids.numpy()].reset_index(drop=True),
        digest=content_digest(source.classes, train, held),
        data_seed=options.data_seed,
    )


def content_digest(classes: Sequence[str], train: Samples, validation: Samples) -> str:
    """SHA-256 over what is really trained and validated on; places and names play no part.

    Args:
        classes: Class names.
        train: Samples to train on.
        validation: Samples to validate on.

    Returns:
        64 hex digits over classes, shapes, dtypes, ids, labels and pixels.
    """
    tensors = [
        tensor.cpu().contiguous()
        for part in (train, validation)
        for tensor in (part.sample_ids, part.labels, part.images)
    ]
    shapes = [[str(t.dtype).removeprefix("torch."), *t.shape] for t in tensors]
    sha256 = hashlib.sha256(json.dumps([list(classes), shapes]).encode())
    for tensor in tensors:
        sha256.update(tensor.numpy().data)
    return sha256.hexdigest()


# From a source to samples: subset, split, agreement of the two parts


def _check_validation(validation: object) -> None:
    share = isinstance(validation, int | float) and 0 < validation < 1
    if not (share or validation is None or validation == "test"):
        raise ValueError(
            f'validation: expected "test" or a share between 0 and 1; came {validation!r}'
        )


def _samples(part: _Part, ids: _Ids) -> Samples:
    images = np.ascontiguousarray(part.pixels(ids))
    return Samples(
        images=torch.from_numpy(images),
        labels=torch.from_numpy(part.labels[ids]),
        sample_ids=torch.from_numpy(ids),
    )


def _subset(labels: _Labels, options: DatasetOptions) -> _Ids:
    """Ids of the training samples to use, ascending."""
    if options.subset is None:
        return np.arange(len(labels))
    if options.subset > len(labels):
        raise ValueError(
            f"subset: expected at most the {len(labels)} training samples of {options.name}; "
            f"came {options.subset}"
        )
    quotas = _class_quotas(np.bincount(labels), options.subset)
    return _first_of_each_class(labels, quotas, _priorities(len(labels), 0, options))


def _split(samples: Samples, share: float, options: DatasetOptions) -> tuple[Samples, Samples]:
    """Samples to train on, and the stratified share that is split off."""
    labels = samples.labels.numpy()
    counts = np.bincount(labels)
    quotas = _class_quotas(counts, round(share * len(labels)))
    quotas = np.clip(quotas, np.minimum(counts // 2, 1), np.maximum(counts - 1, 0))
    if not quotas.any():
        raise ValueError("validation: expected a class of two samples to split; came none")
    # A sample's priority depends on its id alone, not on the subset around it.
    ids = samples.sample_ids.numpy()
    held = _first_of_each_class(labels, quotas, _priorities(int(ids[-1]) + 1, 1, options)[ids])
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


def _priorities(n: int, purpose: int, options: DatasetOptions) -> UInt64[np.ndarray, " {n}"]:
    """One random 64-bit number per source sample."""
    # NumPy promises that raw bits never change; of its shuffles and floats it does not.
    seed = np.random.SeedSequence(options.data_seed, spawn_key=(purpose,))
    return np.asarray(np.random.PCG64(seed).random_raw(n))


def _first_of_each_class(
    labels: Int64[np.ndarray, " samples"],
    quotas: Int64[np.ndarray, " classes"],
    priorities: UInt64[np.ndarray, " samples"],
) -> Int64[np.ndarray, " chosen"]:
    """Ascending positions of each class's ``quotas[class]`` samples of lowest priority."""
    order = np.lexsort((priorities, labels))
    ordered = labels[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return np.sort(order[rank < quotas[ordered]])


def _alike(train: Samples, test: Samples, name: str) -> tuple[Samples, Samples]:
    """Give both parts as many channels; sizes must agree by themselves."""
    sizes = [tuple(part.images.shape[2:]) for part in (train, test)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"{name}: expected one image size; came {_size(sizes[0])} in train and "
            f"{_size(sizes[1])} in test"
        )
    channels = max(part.images.shape[1] for part in (train, test))
    return _with_channels(train, channels), _with_channels(test, channels)


def _with_channels(samples: Samples, channels: int) -> Samples:
    if samples.images.shape[1] == channels:
        return samples
    return Samples(
        images=samples.images.repeat(1, channels, 1, 1),
        labels=samples.labels,
        sample_ids=samples.sample_ids,
    )


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
        data = _fetched(torchvision.datasets.MNIST, "MNIST/raw", options, train)
        return data, _array_part(data.targets, data.data.numpy()[:, None])

    return _torchvision(part)


def _cifar(kind: Callable[..., Any], folder: str, options: DatasetOptions) -> _Source:
    def part(train: bool) -> tuple[Any, _Part]:
        data = _fetched(kind, folder, options, train)
        return data, _array_part(data.targets, data.data.transpose(0, 3, 1, 2))

    return _torchvision(part)


def _cifar10(options: DatasetOptions) -> _Source:
    return _cifar(torchvision.datasets.CIFAR10, "cifar-10-batches-py", options)


def _cifar100(options: DatasetOptions) -> _Source:
    return _cifar(torchvision.datasets.CIFAR100, "cifar-100-python", options)


def _torchvision(part: Callable[[bool], tuple[Any, _Part]]) -> _Source:
    data, train = part(True)
    return _Source(classes=tuple(data.classes), train=train, test=lambda: part(False)[1])


def _fetched(kind: Callable[..., Any], folder: str, options: DatasetOptions, train: bool) -> Any:
    try:
        return kind(options.place, train=train, download=options.download)
    except RuntimeError as error:
        if options.download:
            raise
        raise ValueError(
            f"{options.name}: expected its files in {options.place / folder}; they are absent or "
            "damaged, and `download: true` fetches them"
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
        return pa.concat_tables(pq.ParquetFile(f).read(columns=list(names)) for f in self.files)

    def image_column(self) -> str:
        """Name of the struct that holds the encoded images."""
        for name in _IMAGE_COLUMNS:
            index = self.schema.get_field_index(name)
            if index >= 0 and _holds_bytes(self.schema.field(index).type):
                return name
        raise ValueError(
            f"{self.files[0]}: expected a column {' or '.join(_IMAGE_COLUMNS)} with `bytes`; "
            f"came {', '.join(self.schema.names)}"
        )

    def encoded(self, ids: _Ids) -> Iterator[tuple[str, bytes | None]]:
        """Name and encoded image of each of the ascending ids, a row group in memory at once."""
        name, first = self.image_column(), 0
        for file in map(pq.ParquetFile, self.files):
            for group in range(file.num_row_groups):
                last = first + file.metadata.row_group(group).num_rows
                rows = ids[slice(*np.searchsorted(ids, (first, last)))]
                if len(rows):
                    images = file.read_row_group(group, columns=[f"{name}.bytes"])[name]
                    data = pc.struct_field(images, "bytes").take(pa.array(rows - first))
                    names = [f"{self.files[0].parent}, row {row}" for row in rows]
                    yield from zip(names, data.to_pylist(), strict=True)
                first = last


def _shards(files: Sequence[Path]) -> _Shards:
    try:
        return _Shards(files=files, schema=pq.read_schema(files[0]))
    except pa.ArrowInvalid as error:
        raise ValueError(f"{files[0]}: expected a parquet file; {error}") from error


def _holds_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0


def _parquet(options: DatasetOptions) -> _Source:
    shards = _shards(_parquet_files(options.place, "train"))
    labels = _labels(shards, options.label_column)
    n_classes = int(labels.max()) + 1
    extra = [
        f.name
        for f in shards.schema
        if pa.types.is_integer(f.type) and f.name != options.label_column
    ]
    table = shards.columns(extra).to_pandas(ignore_metadata=True) if extra else None
    has_test = options.place.is_dir() and _parquet_files(options.place, "test", needed=False)
    return _Source(
        classes=tuple(map(str, range(n_classes))),
        train=_Part(labels=labels, pixels=lambda ids: _stacked(shards, ids)),
        test=(lambda: _parquet_test(options, n_classes)) if has_test else None,
        columns=None if table is None else table.add_prefix("truth_"),
    )


def _parquet_test(options: DatasetOptions, n_classes: int) -> _Part:
    shards = _shards(_parquet_files(options.place, "test"))
    labels = _labels(shards, options.label_column)
    unknown = np.flatnonzero(labels >= n_classes)
    if len(unknown):
        raise ValueError(
            f"{shards.files[0]}: expected labels below {n_classes}, as in train; "
            f"came {labels[unknown[0]]} in row {unknown[0]}"
        )
    return _Part(labels=labels, pixels=lambda ids: _stacked(shards, ids))


def _stacked(shards: _Shards, ids: _Ids) -> _Images:
    pictures = ((name, _decoded(name, data)) for name, data in shards.encoded(ids))
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
            f"came {len(found)}"
        )
    if needed and not found:
        raise ValueError(
            f"{place}: expected a parquet file, or a folder with {part}.parquet or "
            f"{part}-00000-of-00001.parquet; came neither"
        )
    return sorted(place / m[0] for m in found)


def _labels(shards: _Shards, column: str) -> _Labels:
    """The labels, checked: integers, none missing, none negative."""
    index = shards.schema.get_field_index(column)
    if index < 0:
        raise ValueError(
            f"{shards.files[0]}: expected a column {column!r} with the labels; "
            f"came {', '.join(shards.schema.names)}"
        )
    if not pa.types.is_integer(kind := shards.schema.field(index).type):
        raise ValueError(f"{shards.files[0]}: expected integers in {column!r}; came {kind}")
    values = shards.columns([column])[column]
    labels = values.cast(pa.int64()).fill_null(-1).to_numpy()
    if not len(labels):
        raise ValueError(f"{shards.files[0]}: expected samples; came no rows")
    bad = np.flatnonzero((labels < 0) | (labels >= _MAX_CLASSES))
    if len(bad):
        came = values[int(bad[0])].as_py()
        raise ValueError(
            f"{shards.files[0]}: expected labels from 0 to {_MAX_CLASSES - 1} in {column!r}; "
            f"came {'null' if came is None else came} in row {bad[0]}"
        )
    return labels


# Folders of images, one a class


def _imagefolder(options: DatasetOptions) -> _Source:
    place = options.place
    train = place / "train" if (place / "train").is_dir() else place
    try:
        classes, index = find_classes(train)
        files = make_dataset(train, index, extensions=IMG_EXTENSIONS)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"{place}: expected images in train/<class>/ or <class>/; {error}"
        ) from error
    tests = [place / name for name in ("val", "test")] if train != place else []
    test = next((path for path in tests if any(p.is_dir() for p in path.glob("*"))), None)
    return _Source(
        classes=tuple(classes),
        train=_folder_part(files, options),
        test=(lambda: _folder_test(test, index, options)) if test else None,
    )


def _folder_test(folder: Path, index: dict[str, int], options: DatasetOptions) -> _Part:
    unknown = sorted(set(find_classes(folder)[0]) - set(index))
    if unknown:
        raise ValueError(f"{folder}: expected the classes of train; came also {unknown[0]!r}")
    files = make_dataset(folder, index, extensions=IMG_EXTENSIONS, allow_empty=True)
    if not files:
        raise ValueError(f"{folder}: expected images in <class>/; came none")
    return _folder_part(files, options)


def _folder_part(files: Sequence[tuple[str, int]], options: DatasetOptions) -> _Part:
    def pixels(ids: _Ids) -> _Images:
        names = [files[i][0] for i in ids]
        pictures = _read_in_threads(names, options.image_size)
        return _stack(pictures, len(ids), str(options.place), advice="; set image_size")

    return _Part(labels=np.array([label for _, label in files]), pixels=pixels)


def _read_in_threads(
    names: Sequence[str], image_size: int | None, block: int = 256
) -> Iterator[tuple[str, _Picture]]:
    """Name and pixels of each file; blocks bound how far the threads run ahead."""

    def picture(name: str) -> tuple[str, _Picture]:
        return name, _decoded(name, Path(name).read_bytes(), image_size)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for first in range(0, len(names), block):
            yield from pool.map(picture, names[first : first + block])


# From encoded images to one array


def _decoded(name: str, data: bytes | None, image_size: int | None = None) -> _Picture:
    """Pixels ``[channels, height, width]``: one channel if stored as 8-bit grey, else three."""
    if data is None:
        raise ValueError(f"{name}: expected an image; came null")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            # PIL would clip 16-bit intensities to 255 without a word.
            if image.mode[0] in "IF":
                raise ValueError(f"{name}: expected 8 bits a channel; came mode {image.mode}")
            plain = image.mode in ("L", "RGB")
            ready = _resized(image if plain else image.convert("RGB"), image_size)
            pixels = np.frombuffer(ready.tobytes(), np.uint8)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name}: expected an image; {error}") from error
    return pixels.reshape(ready.height, ready.width, -1).transpose(2, 0, 1)


def _resized(image: Image.Image, size: int | None) -> Image.Image:
    if size is None:
        return image
    return functional.center_crop(functional.resize(image, [size]), [size, size])


def _stack(
    pictures: Iterable[tuple[str, _Picture]], n: int, place: str, advice: str = ""
) -> _Images:
    """One array of ``n`` pictures of one size; grey becomes RGB where any is RGB."""
    stack = np.empty((0, 0, 0, 0), dtype=np.uint8)
    for row, (name, picture) in enumerate(pictures):
        if row == 0:
            _check_memory(n, picture.shape, place)
            stack = np.empty((n, *picture.shape), dtype=np.uint8)
        if picture.shape[1:] != stack.shape[2:]:
            raise ValueError(
                f"{name}: expected one image size, {_size(stack.shape[2:])} as in the first "
                f"image; came {_size(picture.shape[1:])}{advice}"
            )
        if len(picture) > stack.shape[1]:
            _check_memory(n, picture.shape, place)
            stack = np.repeat(stack, len(picture), axis=1)
        stack[row] = picture  # a grey picture is broadcast to all three channels
    return stack


def _check_memory(n: int, shape: tuple[int, ...], place: str) -> None:
    gib = n * float(np.prod(shape, dtype=float)) / 2**30
    if gib > MEMORY_LIMIT_GIB:
        raise ValueError(
            f"{place}: expected images that take at most {MEMORY_LIMIT_GIB:g} GiB decoded; "
            f"came {n} of {_size(shape[1:])} pixels, {gib:.3g} GiB. Take a subset or smaller images"
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
}
