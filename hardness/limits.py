"""Quantities that are left out or approximated on a large dataset, and why."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Above this number of samples, quadratic costs and dozens of passes are avoided.
LARGE = 200_000
# Above this number of samples, only a fixed subset of this size can be neighbors.
REFERENCE = 200_000
LOGITS_GIB = 1.0
PIXELS_GIB = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit on some quantities: left out or approximated at some dataset size.

    Args:
        names: Names of signals, snapshots or metrics. Metrics that read one of them are affected.
        off: True if they are left out unless asked for by name; False if they are approximated.
        why: What is done instead, or what the quantities would cost.
    """

    names: tuple[str, ...]
    off: bool
    why: str


def limits(samples: int, n_classes: int, image_shape: Sequence[int]) -> tuple[Limit, ...]:
    """Limits that apply to a dataset of this size; none for a small dataset.

    Args:
        samples: Number of training samples.
        n_classes: Number of classes.
        image_shape: Channels, height and width.

    Example:
        >>> limits(50_000, 10, (3, 32, 32))
        ()
        >>> [limit.names[0] for limit in limits(1_281_167, 1000, (3, 224, 224)) if limit.off]
        ['vog', 'pixel_distances', 'logits']
    """
    found = []
    if samples > LARGE:
        found += [
            Limit(
                names=("neighbor_distances", "neighbor_rows"),
                off=False,
                why=f"neighbors come from a fixed {REFERENCE:,} of the {samples:,} samples",
            ),
            Limit(
                names=("prototypicality",),
                off=False,
                why="k-means in mini-batches, started once",
            ),
            Limit(
                names=("vog", "vog.early", "vog.late", "vog_prob"),
                off=True,
                why="two input gradients at each of 10 checkpoints, 60 forward passes a sample",
            ),
        ]
    numbers = math.prod(image_shape)
    if samples > LARGE or 4 * samples * numbers > PIXELS_GIB * 2**30:
        found.append(
            Limit(
                names=("pixel_distances",),
                off=True,
                why=f"distances of {samples:,} images of {numbers:,} numbers, all in memory",
            )
        )
    gib = 4 * samples * n_classes / 2**30
    if gib > LOGITS_GIB:
        found.append(
            Limit(
                names=("logits", "holdout_probs"),
                off=True,
                why=f"{gib:.1f} GiB a run; keep: {{logits: last}} keeps them",
            )
        )
    return tuple(found)
