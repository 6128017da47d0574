"""What a large dataset makes too dear: which quantities are left out or approximated, and why."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Samples above which a cost that grows with their square, or with dozens of passes, is cut.
LARGE = 200_000
# Above this number of samples, only a fixed subset of this size can be neighbors.
REFERENCE = 200_000
LOGITS_GIB = 1.0
PIXELS_GIB = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A quantity that falls short of its definition at some size.

    Args:
        names: Signals, snapshots or metrics. A metric that reads one of them is concerned too.
        off: Whether they are left out unless asked for by name. If not, they are approximated.
        why: What is done instead, and what it saves.
    """

    names: tuple[str, ...]
    off: bool
    why: str


def limits(samples: int, n_classes: int, image_shape: Sequence[int]) -> tuple[Limit, ...]:
    """All limits at a size; none for a small dataset.

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
