"""What a user can put right, told in one line; the command line ends with exit code 2."""


class Mistake(Exception):  # noqa: N818 - the word of the documentation
    """Says what was expected, what came and what to do; carries no traceback to the terminal."""
