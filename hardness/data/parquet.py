"""Datasets of images in parquet files."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hardness.data.image_files import decoded
from hardness.data.options import DatasetOptions
from hardness.data.source import SOURCE, Ids, Images, Labels, Part, Source, T, stack
from hardness.files import UNREADABLE, group_sizes, one_line

_MAX_CLASSES = 100_000
_IMAGE_COLUMNS = ("img", "image")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Shards:
    """The rows of one or more parquet files, read as one table.

    Args:
        files: Paths in the order of their rows.
        schema: Schema of the first file.
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

    def encoded(self, ids: Ids) -> Iterator[tuple[str, bytes | None]]:
        """Name and encoded image of each id; ids ascend. Only one row group is held in memory."""
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


def _one_per_class(shards: _Shards, name: str, n_classes: int) -> bool:
    """Whether each row's list has one number per class, as people's votes have."""
    lengths = pc.list_value_length(shards.columns([name])[name])
    return bool(pc.all(pc.equal(lengths, n_classes), skip_nulls=False).as_py())


def parquet(options: DatasetOptions) -> Source:
    """Images in one parquet file, or in a folder with parts ``train`` and perhaps ``test``."""
    shards = _shards(_parquet_files(options.place, "train"))
    labels = _labels(shards, options.label_column)
    n_classes = int(labels.max()) + 1
    extra = [
        f.name
        for f in shards.schema
        if (pa.types.is_integer(f.type) and f.name != options.label_column)
        or (_holds_numbers(f.type) and _one_per_class(shards, f.name, n_classes))
    ]
    table = shards.columns(extra).to_pandas(ignore_metadata=True) if extra else None
    has_test = options.place.is_dir() and _parquet_files(options.place, "test", needed=False)
    return Source(
        classes=tuple(map(str, range(n_classes))),
        train=Part(labels=labels, pixels=lambda ids: _stacked(shards, ids)),
        test=(lambda: _parquet_test(options, n_classes)) if has_test else None,
        columns=None if table is None else table.add_prefix(SOURCE),
    )


def _parquet_test(options: DatasetOptions, n_classes: int) -> Part:
    shards = _shards(_parquet_files(options.place, "test"))
    labels = _labels(shards, options.label_column)
    unknown = np.flatnonzero(labels >= n_classes)
    if len(unknown):
        raise ValueError(
            f"{shards.files[0]}: expected labels below {n_classes}, as in train; "
            f"got {labels[unknown[0]]} in row {unknown[0]}"
        )
    return Part(labels=labels, pixels=lambda ids: _stacked(shards, ids))


def _stacked(shards: _Shards, ids: Ids) -> Images:
    pictures = ((name, decoded(name, data)) for name, data in shards.encoded(ids))
    return stack(pictures, len(ids), str(shards.files[0].parent))


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


def _labels(shards: _Shards, column: str) -> Labels:
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
