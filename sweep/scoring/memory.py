"""What becomes of the memory that this process's threads have given back."""

import contextlib
import ctypes

_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h


def share_one() -> None:
    """Let all threads allocate from one arena; to be called before there are any.

    By default each thread of Ray's and of ours has an arena of its own, with holes of its own
    where arrays of megabytes come and go: a fifth of what an aggregation's driver takes. Without
    glibc nothing happens.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def give_back() -> None:
    """Return free memory to the machine, as glibc by itself does only at the end of its heap."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
