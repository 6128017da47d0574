"""Names of a run's random streams, apart from the streams, which load torch."""

from collections.abc import Iterable

PURPOSES = ("weights", "order", "augmentation", "dropout", "views")


def check_purposes(purposes: Iterable[str]) -> None:
    """Refuse an empty or unknown list of stream names.

    Raises:
        ValueError: With the known names.
    """
    names = tuple(purposes)
    unknown = [name for name in names if name not in PURPOSES]
    if unknown or not names:
        got = ", ".join(map(repr, unknown)) or "nothing"
        raise ValueError(f"expected random streams out of {', '.join(PURPOSES)}; got {got}")
