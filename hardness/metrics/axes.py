"""Check, at each call, of the axes that a function's signature names."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast, get_args

import numpy as np
from jaxtyping import Integer

Function = TypeVar("Function", bound=Callable[..., np.ndarray])


def checked_axes(function: Function) -> Function:
    """Make a function refuse arrays with other axes than its signature names.

    Without this check, logits ``[epochs, samples, classes]`` would broadcast silently against a
    history. An axis with a star may be left out, as in ``"*epochs samples width"``.

    Args:
        function: Function whose arrays are annotated with jaxtyping; other arguments are not
            checked.

    Returns:
        The checked function, which raises ``ValueError`` for a wrong number of axes.

    Example:
        >>> from hardness.metrics import aum
        >>> aum(np.zeros((5, 10, 3)))
        Traceback (most recent call last):
            ...
        ValueError: aum: expected label_margin [epochs, samples]; got shape (5, 10, 3)
    """
    signature = inspect.signature(function)
    named = {name: _axes(p.annotation) for name, p in signature.parameters.items()}
    if not any(named.values()):
        return function

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> np.ndarray:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            axes = named[name]
            # None stands for an array that was left out.
            if axes and value is not None and np.ndim(value) not in map(len, axes):
                expected = " or ".join(f"[{', '.join(one)}]" for one in axes)
                raise ValueError(
                    f"{function.__name__}: expected {name} {expected}; got shape {np.shape(value)}"
                )
        return function(*args, **kwargs)

    return cast("Function", checked)


def check_labels(labels: Integer[np.ndarray, " labels"], samples: int) -> None:
    """Refuse labels that do not match the samples.

    Raises:
        ValueError: If there is not one label for each sample.
    """
    if labels.shape != (samples,):
        raise ValueError(f"expected one label for each of {samples} samples; got {labels.shape}")


def _axes(annotation: Any) -> list[tuple[str, ...]]:
    """Accepted lists of an array's axes: without and with the axis that may be left out."""
    for one in (annotation, *get_args(annotation)):
        if text := getattr(one, "dim_str", ""):
            names = text.split()
            fixed = [name for name in names if not name.startswith("*")]
            every = [name.removeprefix("*") for name in names]
            return [tuple(fixed)] if fixed == every else [tuple(fixed), tuple(every)]
    return []
