"""How free memory of this process returns to the machine."""

import contextlib
import ctypes

_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h


def share_one() -> None:
    """Let all threads allocate memory from one arena; call this before any thread starts.

    By default each thread has its own arena, with its own unused gaps. In an aggregation's driver
    these gaps take a fifth of the memory. Without glibc this does nothing.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def give_back() -> None:
    """Return free memory to the machine. By itself, glibc returns only the end of its heap."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
