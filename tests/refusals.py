"""What a refusal looks like: one error of one kind, in one line."""

import contextlib
import warnings


@contextlib.contextmanager
def refused_at_most(kind, *parts):
    """Let the block succeed, or end with this error alone, whose line holds the given parts."""
    text = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas and PIL tell of what they guess
        try:
            yield
        except kind as error:
            text = str(error)
            assert text
    assert "\n" not in text
    assert len(text) < 4200
    for part in parts if text else ():
        assert part in text
