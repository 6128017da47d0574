"""What a user can mend, told in one line that shows no credentials."""

import re

# Up to the last @ before a path: one that a password was left unquoted with is part of it.
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")


class Mistake(Exception):  # noqa: N818 - the word of the documentation
    """Says what was expected, what came and what to do; carries no traceback to the terminal."""


def hidden(text: str) -> str:
    """A text without the credentials of the addresses in it.

    Example:
        >>> hidden("tracker http://me:secret@tracker:5000 does not answer")
        'tracker http://***@tracker:5000 does not answer'
    """
    return _CREDENTIALS.sub("***@", text)
