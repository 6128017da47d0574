"""A disk that may be full: files are whole or not there, and the error says which one."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A neighbour to write into, which becomes the file at the end; of a failure nothing is left.

    Args:
        path: The file, in a folder that is there; what it held before stays until then.

    Raises:
        OSError: What the writing raises, naming the file.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        if error.errno and not error.filename:  # a write that fails names no file
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)
