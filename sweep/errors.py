"""Errors that a user can correct, in one line without credentials."""

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

# Up to the last @ before a path, since a password may contain an unquoted @.
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")
_MOST_NAMES = 20


class Mistake(Exception):  # noqa: N818 - the word of the documentation
    """A user's mistake: what was expected, what came, what to do; shown without a traceback."""


class TrackerError(Mistake, OSError):
    """The tracker did not answer, or refused."""


class TrackerAway(TrackerError):  # noqa: N818 - it states where the tracker is
    """The tracker did not answer; trying again may help."""


class NoSuchSweep(Mistake, LookupError):  # noqa: N818 - it states what the store said
    """The store has no sweep of that name."""


def hidden(text: str) -> str:
    """A text with the credentials in its addresses replaced by ``***``.

    Example:
        >>> hidden("tracker http://me:secret@tracker:5000 does not answer")
        'tracker http://***@tracker:5000 does not answer'
    """
    return _CREDENTIALS.sub("***@", text)


def folder_bar(folder: Path) -> str:
    """The reason why a folder, which need not exist, cannot be written into; empty if it can.

    Example:
        >>> folder_bar(Path("/dev/null/sweeps"))
        '/dev/null is not a folder'
    """
    there = next(p for p in (folder, *folder.parents, Path()) if p.exists() or p.is_symlink())
    if not there.is_dir():
        return f"{there} is not a folder"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"{there} cannot be written into"


def refuse_unwritable(folder: Path, key: str) -> None:
    """Refuse a folder for results before anything is computed.

    Args:
        folder: Folder for results, which need not exist.
        key: Key or option that names the folder.

    Raises:
        Mistake: If nothing can be written there.
    """
    if bar := folder_bar(folder):
        raise Mistake(f"{key}: expected a folder that can be written into; got {folder}: {bar}")


def unknown_metric(name: str, known: Sequence[str]) -> str:
    """The line about an unknown metric, with all known names, or the most similar of many.

    Example:
        >>> unknown_metric("auk", ["aum", "el2n"])
        "unknown metric 'auk'; known: aum, el2n"
    """
    if len(known) <= _MOST_NAMES:
        return f"unknown metric {name!r}; known: {', '.join(known)}"
    near = difflib.get_close_matches(name.lower(), known, n=5) or known[:5]
    return f"unknown metric {name!r}; known: {', '.join(near)} and more, see sweep metrics"
