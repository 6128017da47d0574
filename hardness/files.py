"""Whole files and damaged ones: what is written exists whole or not at all, and is told apart."""

import contextlib
import errno
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError

# What reading anything else as JSON, parquet or safetensors raises: an infinite size, 10,000
# brackets, and a header that claims more than there is memory as well.
UNREADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError,
    MemoryError, pa.ArrowException, SafetensorError,
)  # fmt: skip
_LONGEST = 200
_SYSTEM_ERROR = re.compile(r"os error ([0-9]+)")


class Damaged(ValueError):  # noqa: N818 - it states what happened to the file
    """A file of a run is missing, cut short or not what the manifest says."""


@contextlib.contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """A file beside the target to write into, which takes its place at the end.

    A failure leaves nothing behind, and the target as it was.

    Args:
        target: The file; folders above it are made.

    Raises:
        OSError: If the system refuses, also where safetensors reports that as an error of its own.
    """
    partial = target.with_name(target.name + ".partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    # A link that somebody left under that name would lead the writing elsewhere.
    partial.unlink(missing_ok=True)
    try:
        yield partial
        partial.replace(target)
    except SafetensorError as error:
        said = _SYSTEM_ERROR.search(str(error))
        raise OSError(int(said[1]) if said else errno.EIO, str(error)) from error
    finally:
        partial.unlink(missing_ok=True)


def fingerprint(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def group_sizes(metadata: pq.FileMetaData) -> list[int]:
    """Rows in each group of a parquet file.

    Args:
        metadata: The file's header, read before room is made for what it promises.

    Raises:
        ValueError: If the header promises other rows than its groups have.
    """
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if min(sizes, default=0) < 0 or sum(sizes) != metadata.num_rows:
        raise ValueError(f"a header of {metadata.num_rows} rows in groups of {sum(sizes)}")
    return sizes


def one_line(error: BaseException) -> str:
    """An error's type and message, in one line of bearable length.

    Example:
        >>> one_line(ValueError("no   number")), one_line(MemoryError())
        ('ValueError: no number', 'MemoryError')
    """
    message = " ".join(str(error).split())[:_LONGEST]
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
