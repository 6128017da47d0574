"""What a user can mend, told in one line that shows no credentials."""

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

# Up to the last @ before a path: one that a password was left unquoted with is part of it.
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")
_MOST_NAMES = 20


class Mistake(Exception):  # noqa: N818 - the word of the documentation
    """Says what was expected, what came and what to do; carries no traceback to the terminal."""


class TrackerError(Mistake, OSError):
    """The tracker did not answer or refused; trying again may help."""


class TrackerAway(TrackerError):  # noqa: N818 - it states where the tracker is
    """The tracker did not answer, or not now."""


class NoSuchSweep(Mistake, LookupError):  # noqa: N818 - it states what the store said
    """The store has no sweep of that name."""


def hidden(text: str) -> str:
    """A text without the credentials of the addresses in it.

    Example:
        >>> hidden("tracker http://me:secret@tracker:5000 does not answer")
        'tracker http://***@tracker:5000 does not answer'
    """
    return _CREDENTIALS.sub("***@", text)


def folder_bar(folder: Path) -> str:
    """What keeps results out of a folder, empty if nothing does; the folder is not made.

    Example:
        >>> folder_bar(Path("/dev/null/sweeps"))
        '/dev/null is no folder'
    """
    there = next(p for p in (folder, *folder.parents, Path()) if p.exists() or p.is_symlink())
    if not there.is_dir():
        return f"{there} is no folder"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"{there} cannot be written into"


def refuse_unwritable(folder: Path, key: str) -> None:
    """Refuse a folder for results before anything is computed.

    Args:
        folder: There or not.
        key: What names it, where the user would change it.

    Raises:
        Mistake: If nothing can be written there.
    """
    if bar := folder_bar(folder):
        raise Mistake(f"{key}: expected a folder that can be written into; got {folder}: {bar}")


def unknown_metric(name: str, known: Sequence[str]) -> str:
    """What is said of a name that is none: the names there are or, of many, those like it.

    Example:
        >>> unknown_metric("auk", ["aum", "el2n"])
        "unknown metric 'auk'; known: aum, el2n"
    """
    if len(known) <= _MOST_NAMES:
        return f"unknown metric {name!r}; known: {', '.join(known)}"
    near = difflib.get_close_matches(name.lower(), known, n=5) or known[:5]
    return f"unknown metric {name!r}; known: {', '.join(near)} and more, see sweep metrics"
