"""Seeds from a count, a list or a range."""

import re
from collections.abc import Sequence
from typing import Any

from sweep.experiment.sections import ExperimentError, shown

_COUNT_OR_RANGE = re.compile(r"(?:(\d{1,18}):)?(\d{1,18})")
_MOST_SEEDS = 100_000


def seeds(value: Any, where: str) -> tuple[int, ...]:
    """Seeds from ``10``, ``[0, 1, 2]`` or ``"0:10"``.

    Args:
        value: Value in the experiment file.
        where: Text with which errors begin.

    Raises:
        ExperimentError: If there is no seed, a seed occurs twice, or one is negative.
    """
    start, got = f"{where}: expected", f"got {shown(value)}"
    text = str(value) if is_whole(value) else value
    numbers: Sequence[int]
    if isinstance(text, str) and (found := _COUNT_OR_RANGE.fullmatch(text)):
        numbers = range(int(found[1] or 0), int(found[2]))
    elif isinstance(value, list) and all(map(is_whole, value)):
        numbers = value
    else:
        raise ExperimentError(
            f"{start} a count, a list such as [0, 1, 2] or a range such as 0:10; {got}"
        )
    if not numbers:
        raise ExperimentError(f"{start} at least one seed; {got}")
    if len(numbers) > _MOST_SEEDS:
        raise ExperimentError(f"{start} at most {_MOST_SEEDS} seeds; {got}")
    if min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise ExperimentError(f"{start} different seeds of 0 or more; {got}")
    return tuple(numbers)


def is_whole(value: object) -> bool:
    """Whether a value is a whole number; true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)
