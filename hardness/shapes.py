"""Scores at the door: numbers of any kind become float64, and wrong axes are refused by name.

An unsigned number would wrap when its sign is turned, and a boolean has no sign.
"""

import numpy as np
from jaxtyping import Float, Shaped

# What public functions take. These annotations name the axes for the reader; ``of_samples`` and
# ``of_runs`` check them, so that a wrong shape is refused in our words under a type checker too.
PerSample = Shaped[np.ndarray, "..."]  # [samples]
PerRun = Shaped[np.ndarray, "..."]  # [runs, samples]


def of_samples(
    name: str, values: PerSample, samples: int | None = None
) -> Float[np.ndarray, " samples"]:
    """One score per sample, in float64.

    Args:
        name: Name of the scores in an error.
        values: Numbers or booleans.
        samples: Number of samples to expect; any, if left out.

    Raises:
        ValueError: If the axes are others, or the number of samples is another.

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
    """Refuse an array of other axes, or of another number of samples on its last axis.

    Args:
        name: Name of the array in an error.
        values: The array.
        axes: Names of the axes to expect.
        samples: Number of samples to expect; any, if left out.

    Raises:
        ValueError: If the axes are others, or the number of samples is another.
    """
    shape = np.shape(values)
    named = f"expected {name} [{', '.join(axes)}]"
    if len(shape) != len(axes):
        raise ValueError(f"{named}; got shape {shape}")
    if samples is not None and shape[-1] != samples:
        raise ValueError(f"{named} of {samples} samples; got shape {shape}")
