"""Check the axes of a caller's arrays, and convert scores to float64.

Unsigned numbers would wrap around when negated, and booleans cannot be negated.
"""

import numpy as np
from jaxtyping import Float, Shaped

# Types of public arguments. They accept any shape, so that ``of_samples`` and ``of_runs`` raise our
# own error for a wrong one, even if a type checker runs. The comments name the axes.
PerSample = Shaped[np.ndarray, "..."]  # [samples]
PerRun = Shaped[np.ndarray, "..."]  # [runs, samples]


def of_samples(
    name: str, values: PerSample, samples: int | None = None
) -> Float[np.ndarray, " samples"]:
    """One score per sample, in float64.

    Args:
        name: Name of the scores, for error messages.
        values: Numbers or booleans.
        samples: Expected number of samples; any number if left out.

    Raises:
        ValueError: If the axes or the number of samples are not the expected ones.

    Example:
        >>> of_samples("truth", np.array([True, False]))
        array([1., 0.])
    """
    check_axes(name, values, ("samples",), samples)
    return np.asarray(values, dtype=np.float64)


def of_runs(
    name: str, values: PerRun, samples: int | None = None
) -> Float[np.ndarray, "runs samples"]:
    """One score per run and sample, in float64; arguments and errors as in ``of_samples``.

    Example:
        >>> of_runs("scores", np.ones((1, 2), dtype=np.uint8))
        array([[1., 1.]])
    """
    check_axes(name, values, ("runs", "samples"), samples)
    return np.asarray(values, dtype=np.float64)


def check_axes(
    name: str, values: Shaped[np.ndarray, "..."], axes: tuple[str, ...], samples: int | None = None
) -> None:
    """Refuse an array without the named axes, or with another number of samples on the last one.

    Raises:
        ValueError: If the axes or the number of samples are not the expected ones.
    """
    shape = np.shape(values)
    named = f"expected {name} [{', '.join(axes)}]"
    if len(shape) != len(axes):
        raise ValueError(f"{named}; got shape {shape}")
    if samples is not None and shape[-1] != samples:
        raise ValueError(f"{named} of {samples} samples; got shape {shape}")
