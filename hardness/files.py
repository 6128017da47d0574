"""Write files whole or not at all, and recognise damaged ones."""

import contextlib
import errno
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError

# Errors raised by reading a damaged JSON, parquet or safetensors file. Examples of damage are an
# infinite size, 10,000 brackets, and a header that claims more than the memory.
UNREADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError,
    MemoryError, pa.ArrowException, SafetensorError,
)  # fmt: skip
_LONGEST = 200
# Error numbers of a full disk and of a used-up quota.
FULL = (errno.ENOSPC, errno.EDQUOT)
_SYSTEM_ERROR = re.compile(r"os error ([0-9]+)")


class Damaged(ValueError):  # noqa: N818 - it states what happened to the file
    """A file of a run is missing, cut short or not what the manifest says."""


@contextlib.contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yield a temporary file beside the target; at the end it replaces the target.

    After a failure, the temporary file is removed and the target is unchanged.

    Args:
        target: File to write. Missing folders above it are created.

    Raises:
        OSError: If the system refuses. The error names the file, even where safetensors reports
            it as an error of its own.
    """
    partial = target.with_name(f".{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    # A symbolic link left under this name would redirect the write.
    partial.unlink(missing_ok=True)
    try:
        yield partial
        partial.replace(target)
    except SafetensorError as error:
        said = _SYSTEM_ERROR.search(str(error))
        raise OSError(int(said[1]) if said else errno.EIO, str(error), str(target)) from error
    except OSError as error:
        if error.errno and not error.filename:  # a failed write names no file
            error.filename = str(target)
        raise
    finally:
        partial.unlink(missing_ok=True)


def fingerprint(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def group_sizes(metadata: pq.FileMetaData) -> list[int]:
    """Number of rows in each row group of a parquet file.

    Args:
        metadata: Header of the file. Check it before allocating memory for its rows.

    Raises:
        ValueError: If a size is negative, or the sizes do not add up to the header's row count.
    """
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if min(sizes, default=0) < 0 or sum(sizes) != metadata.num_rows:
        raise ValueError(f"expected {metadata.num_rows} rows in all groups; got {sum(sizes)}")
    return sizes


def one_line(error: BaseException) -> str:
    """An error's type and message in one line; a long message is cut.

    Example:
        >>> one_line(ValueError("no   number")), one_line(MemoryError())
        ('ValueError: no number', 'MemoryError')
    """
    message = " ".join(str(error).split())[:_LONGEST]
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
