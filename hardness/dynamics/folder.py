"""The folder that holds one run's training dynamics.

Layout, the same on disk and as a run's artifacts::

    spec.json                              configuration, seed and classes of the run
    samples.parquet                        one row per sample, in the order of every other file
    dynamics/epoch=init.parquet            before training
    dynamics/epoch=0007.parquet            after epoch 7, one column per signal
    snapshots/epoch=0029.safetensors       last embedding, logits, neighbours; folds
    manifest.json                          written last: names, sizes and digests of the files
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64, Shaped
from safetensors.numpy import load_file, save_file

from hardness.dynamics.record import INIT, EpochRecord
from hardness.files import UNREADABLE, Damaged, atomic_write, fingerprint, group_sizes, one_line

ROW_GROUP = 65_536
MANIFEST = "manifest.json"
SAMPLES = "samples.parquet"
SPEC = "spec.json"
SUMMARY = "summary"
# Most epoch files that one reader keeps open; further files are opened again for every read.
MOST_OPEN = 200
_FILE = re.compile(
    r"samples\.parquet|spec\.json|dynamics/epoch=(init|[0-9]{4,})\.parquet"
    r"|snapshots/epoch=[0-9]{4,}\.safetensors"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The table of contents of a run; its presence marks the run as finished.

    Args:
        epochs: Number of epochs trained.
        rows: Number of samples in each file.
        signals: Names of the per-epoch signals and of the snapshots.
        files: Size in bytes and SHA-256 of each file, by relative name.
        passes: Epochs of each scoring pass that was made, by the name of the pass.
    """

    epochs: int
    rows: int
    signals: tuple[str, ...]
    files: Mapping[str, tuple[int, str]]
    passes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text of ``manifest.json``."""
        files = {k: {"bytes": v[0], "sha256": v[1]} for k, v in sorted(self.files.items())}
        content = {
            "epochs": self.epochs,
            "rows": self.rows,
            "signals": list(self.signals),
            "passes": {name: list(epochs) for name, epochs in self.passes.items()},
        }
        return json.dumps({**content, "files": files}, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """Read a manifest and check everything in it.

        Raises:
            Damaged: If the text is not a manifest or names a file outside the run's layout.
        """
        try:
            content = json.loads(text)
            files = {
                str(k): (int(v["bytes"]), str(v["sha256"])) for k, v in content["files"].items()
            }
            manifest = cls(
                epochs=int(content["epochs"]),
                rows=int(content["rows"]),
                signals=tuple(map(str, content["signals"])),
                files=files,
                passes={str(k): tuple(map(int, v)) for k, v in content.get("passes", {}).items()},
            )
        except UNREADABLE as error:
            raise Damaged(f"{MANIFEST}: expected a manifest; got {one_line(error)}") from error
        if manifest.epochs < 1 or manifest.rows < 0:
            raise Damaged(
                f"{MANIFEST}: expected at least 1 epoch of 0 or more rows; "
                f"got {manifest.epochs} of {manifest.rows}"
            )
        strange = [name for name in files if not _FILE.fullmatch(name)]
        if strange:
            raise Damaged(f"{MANIFEST}: expected files of a run; got {strange[0]!r}")
        return manifest


def epoch_file(epoch: int) -> str:
    """Relative name of an epoch's file."""
    return f"dynamics/epoch={'init' if epoch == INIT else f'{epoch:04d}'}.parquet"


def snapshot_file(epoch: int) -> str:
    """Relative name of an epoch's snapshots."""
    return f"snapshots/epoch={epoch:04d}.safetensors"


def write_samples(folder: Path, samples: pd.DataFrame) -> str:
    """Write ``samples.parquet``; returns its relative name."""
    with atomic_write(folder / SAMPLES) as partial:
        samples.to_parquet(partial, index=False)
    return SAMPLES


def write_spec(folder: Path, content: Mapping[str, Any]) -> str:
    """Write ``spec.json``; returns its relative name."""
    with atomic_write(folder / SPEC) as partial:
        partial.write_text(json.dumps(content, indent=1))
    return SPEC


def write_epoch(folder: Path, record: EpochRecord) -> list[str]:
    """Write a record's signals and snapshots; returns the relative names, signals first.

    Float columns are byte-stream-split before compression: ten of them take about 33 bytes per
    sample, against 40 for plain float32 and 50 for pyarrow's defaults.
    """
    table = pa.table({k: np.ascontiguousarray(v) for k, v in record.signals.items()})
    # Wall-clock seconds are left out, so that a repeated epoch writes the same file.
    summary = {k: v for k, v in record.summary.items() if not k.endswith("_seconds")}
    table = table.replace_schema_metadata({SUMMARY: json.dumps(summary)})
    floats = [f.name for f in table.schema if pa.types.is_floating(f.type)]
    name = epoch_file(record.epoch)
    with atomic_write(folder / name) as partial:
        pq.write_table(
            table,
            partial,
            row_group_size=ROW_GROUP,
            compression="zstd",
            compression_level=3,
            use_dictionary=False,
            column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
            write_statistics=False,
        )
    return [name, *write_snapshots(folder, record.epoch, record.snapshots)]


def write_snapshots(
    folder: Path, epoch: int, arrays: Mapping[str, Shaped[np.ndarray, "samples ..."]]
) -> list[str]:
    """Write an epoch's snapshots, if there are any; returns the relative name."""
    if not arrays:
        return []
    name = snapshot_file(epoch)
    with atomic_write(folder / name) as partial:
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, partial)
    return [name]


def read_summary(path: Path) -> dict[str, float]:
    """An epoch's summary, which ``write_epoch`` stores in the file's metadata.

    Raises:
        Damaged: If the file cannot be read.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
        return {k: float(v) for k, v in json.loads(metadata[SUMMARY.encode()]).items()}
    except UNREADABLE as error:
        raise Damaged(f"{path}: expected an epoch of dynamics; got {one_line(error)}") from error


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Write ``manifest.json``, the last file of a run; returns its relative name."""
    with atomic_write(folder / MANIFEST) as partial:
        partial.write_text(manifest.to_json())
    return MANIFEST


class Dynamics:
    """Reader of a finished run's folder, for all samples or a block of them.

    Args:
        folder: Folder with the layout at the top of this file.

    Raises:
        Damaged: If the manifest, a file that it names or an epoch is missing, or if a file's size
            differs from the manifest's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, pq.ParquetFile] = {}
        try:
            self.manifest = Manifest.from_json((folder / MANIFEST).read_bytes())
        except FileNotFoundError as error:
            raise Damaged(f"{folder}: expected a run with a {MANIFEST}; got none") from error
        except OSError as error:
            raise Damaged(
                f"{folder / MANIFEST}: expected a manifest; got {one_line(error)}"
            ) from error
        for name, (size, _) in self.manifest.files.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != size:
                got = f"{path.stat().st_size} bytes" if path.is_file() else "no file"
                raise Damaged(f"{path}: expected {size} bytes as the manifest says; got {got}")
        for name in map(epoch_file, range(self.manifest.epochs)):
            if name not in self.manifest.files:
                raise Damaged(f"{folder}: expected {self.manifest.epochs} epochs; got no {name}")

    def verify(self) -> None:
        """Compare every file's digest with the manifest.

        Raises:
            Damaged: If a file differs; the error names the first such file.
        """
        for name, expected in self.manifest.files.items():
            if fingerprint(self.folder / name) != expected:
                raise Damaged(f"{self.folder / name}: expected the manifest's digest; got another")

    @property
    def samples(self) -> pd.DataFrame:
        """The table of samples.

        Raises:
            Damaged: If the table cannot be read, its number of rows differs from the manifest's, or
                ids or labels are not integers.
        """
        try:
            group_sizes(pq.read_metadata(self.folder / SAMPLES))
            table = pd.read_parquet(self.folder / SAMPLES)
            for column in ("sample_id", "label"):
                if table[column].dtype.kind not in "iu":
                    raise TypeError(f"{column} in {table[column].dtype}")
        except UNREADABLE as error:
            raise Damaged(
                f"{self.folder / SAMPLES}: expected a table of samples; got {one_line(error)}"
            ) from error
        if len(table) != self.manifest.rows:
            raise Damaged(
                f"{self.folder / SAMPLES}: expected {self.manifest.rows} rows; got {len(table)}"
            )
        return table

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes.

        Raises:
            Damaged: If the run's spec cannot be read.
        """
        try:
            return tuple(map(str, json.loads((self.folder / SPEC).read_bytes())["classes"]))
        except UNREADABLE as error:
            raise Damaged(
                f"{self.folder / SPEC}: expected a spec; got {one_line(error)}"
            ) from error

    def signals(
        self,
        names: Sequence[str],
        rows: tuple[int, int] | None = None,
        *,
        last_epoch: bool = False,
    ) -> dict[str, Shaped[np.ndarray, "epochs samples"]]:
        """Per-epoch signals as ``[epochs, samples]`` arrays, without ``epoch=init``.

        A signal that only some epochs recorded has one row for each of those epochs.

        Args:
            names: Columns to read.
            rows: First row and the row after the last; all rows, if left out. Only the row groups
                that hold these rows are read.
            last_epoch: Whether to return only the last recorded epoch of each signal.

        Raises:
            Damaged: If no epoch's file has the column, or a file has another number of rows.
        """
        if not names:
            return {}
        first, last = rows or (0, self.manifest.rows)
        found: dict[str, np.ndarray] = {}
        recorded = dict.fromkeys(names, 0)
        epochs = range(self.manifest.epochs)
        for file in map(epoch_file, reversed(epochs) if last_epoch else epochs):
            wanted = [name for name in names if not (last_epoch and recorded[name])]
            if not wanted:
                break
            for name, values in self._columns(file, wanted, first, last).items():
                if name not in found:
                    shape = 1 if last_epoch else len(epochs), last - first
                    found[name] = np.empty(shape, values.dtype)
                if found[name].dtype != values.dtype:
                    raise Damaged(
                        f"{self.folder / file}: expected {name} as {found[name].dtype}, as in "
                        f"other epochs; got {values.dtype}"
                    )
                found[name][recorded[name]] = values
                recorded[name] += 1
        missing = [name for name in names if not recorded[name]]
        if missing:
            raise Damaged(f"{self.folder}: expected {', '.join(missing)} in some epoch; got none")
        return {name: found[name][: recorded[name]] for name in names}

    def summaries(self, name: str) -> Float64[np.ndarray, " epochs"]:
        """One number from each epoch's summary, such as ``lr``; NaN where an epoch lacks it.

        Raises:
            Damaged: If a file cannot be read.
        """
        files = (self.folder / epoch_file(epoch) for epoch in range(self.manifest.epochs))
        return np.array([read_summary(file).get(name, math.nan) for file in files])

    def snapshots(self) -> dict[str, Shaped[np.ndarray, "samples ..."]]:
        """The arrays of the last epoch's snapshot; empty if none was kept.

        Raises:
            Damaged: If the file cannot be read.
        """
        name = snapshot_file(self.manifest.epochs - 1)
        if name not in self.manifest.files:
            return {}
        try:
            arrays = load_file(self.folder / name)
        except UNREADABLE as error:
            raise Damaged(
                f"{self.folder / name}: expected snapshots; got {one_line(error)}"
            ) from error
        for key, array in arrays.items():
            if array.shape[:1] != (self.manifest.rows,):
                raise Damaged(
                    f"{self.folder / name}: expected {self.manifest.rows} rows of {key}; "
                    f"got shape {array.shape}"
                )
        return arrays

    def _columns(
        self, name: str, columns: Sequence[str], first: int, last: int
    ) -> dict[str, np.ndarray]:
        try:
            file = self._epoch(name)
            self._check_rows(name, file)
            # The group size comes from the file: another version may have written it.
            size = max(1, file.metadata.row_group(0).num_rows) if file.num_row_groups else 1
            groups = range(first // size, -(-last // size))
            table = file.read_row_groups(list(groups), columns=list(columns), use_threads=False)
            offset = groups.start * size
            found = {
                c: table[c].to_numpy()[first - offset : last - offset] for c in table.column_names
            }
        except Damaged:
            raise
        except UNREADABLE as error:
            raise Damaged(
                f"{self.folder / name}: expected an epoch of dynamics; got {one_line(error)}"
            ) from error
        for column, values in found.items():
            if values.dtype.kind not in "fbiu" or len(values) != last - first:
                raise Damaged(
                    f"{self.folder / name}: expected {last - first} numbers in {column}; got "
                    f"{len(values)} of {values.dtype}"
                )
        return found

    def _check_rows(self, name: str, file: pq.ParquetFile) -> None:
        if file.metadata.num_rows != self.manifest.rows:
            raise Damaged(
                f"{self.folder / name}: expected {self.manifest.rows} rows; "
                f"got {file.metadata.num_rows}"
            )

    def _epoch(self, name: str) -> pq.ParquetFile:
        """An epoch's file. It stays open, since opening takes as long as reading a column."""
        if name in self._open:
            return self._open[name]
        # Without pre-buffering, reading one column at a time costs little more than all at once.
        file = pq.ParquetFile(self.folder / name, pre_buffer=False)
        group_sizes(file.metadata)
        if len(self._open) < MOST_OPEN:
            self._open[name] = file
        return file


def samples_table(
    *, sample_ids: Iterable[int], labels: Iterable[int], columns: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The table of a run's samples: id, label that training used, and further columns of truth."""
    table = pd.DataFrame({"sample_id": sample_ids, "label": labels})
    extra = pd.DataFrame() if columns is None else columns.reset_index(drop=True)
    return pd.concat([table, extra], axis=1)
