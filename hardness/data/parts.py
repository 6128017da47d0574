"""Parts of a training set: the hardest or easiest samples, or random ones by class."""

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int64, Integer

from hardness.data.datasets import Dataset
from hardness.data.source import first_of_each_class
from hardness.seeding import raw_bits
from hardness.shapes import PerSample, of_samples

Which = Literal["hardest", "easiest"]
Positions = Int64[np.ndarray, " kept"]


def part_size(samples: int, keep: float) -> int:
    """Number of samples that a share keeps: the nearest whole number, and at least one.

    Example:
        >>> part_size(10, 0.75), part_size(3, 0.1)
        (8, 1)
    """
    return max(1, math.floor(keep * samples + 0.5))


def ranked_part(hardness: PerSample, keep: float, which: Which, *, seed: int = 0) -> Positions:
    """The hardest or the easiest share of the samples.

    Ties are broken by one seeded order of all samples. So the hardest of a small share are among
    the hardest of a larger one.

    Args:
        hardness: Score of every sample; a high score means hard.
        keep: Share of the samples to keep, above 0 and up to 1.
        which: Whether to keep the hardest or the easiest samples.
        seed: Seed of the order among ties.

    Returns:
        Positions, ascending.

    Raises:
        ValueError: If the share is out of range, a score is NaN, or there is not one axis.

    Example:
        >>> ranked_part(np.array([0.1, 0.9, 0.5, 0.3]), 0.5, "hardest").tolist()
        [1, 2]
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep: expected a share above 0, up to 1; got {keep}")
    hardness = of_samples("hardness", hardness)
    if missing := int(np.isnan(hardness).sum()):
        raise ValueError(
            f"expected a score for every sample; got none for {missing} of {len(hardness)}"
        )
    tie = raw_bits(len(hardness), seed, "pruning|ties")
    order = np.lexsort((tie, -hardness if which == "hardest" else hardness))
    return np.sort(order[: part_size(len(hardness), keep)]).astype(np.int64)


def class_counts(labels: Integer[np.ndarray, " samples"], n_classes: int) -> tuple[int, ...]:
    """Number of samples in each class."""
    return tuple(np.bincount(labels, minlength=n_classes).tolist())


def random_part(
    labels: Integer[np.ndarray, " samples"], counts: Sequence[int], *, seed: int
) -> Positions:
    """Random samples with given class counts.

    The parts of one seed are nested: a greater count adds samples of that class.

    Args:
        labels: Label of every sample.
        counts: Number of samples to keep, by class.
        seed: Seed of the draw.

    Returns:
        Positions, ascending.

    Raises:
        ValueError: If a class has fewer samples than are asked for.

    Example:
        >>> labels = np.array([0, 0, 1, 1, 1])
        >>> np.bincount(labels[random_part(labels, (1, 3), seed=0)]).tolist()
        [1, 3]
    """
    sizes = class_counts(labels, len(counts))
    if short := [label for label, count in enumerate(counts) if sizes[label] < count]:
        label = short[0]
        raise ValueError(
            f"class {label}: expected {counts[label]} samples or more; got {sizes[label]}"
        )
    priorities = raw_bits(len(labels), seed, "pruning|random")
    return first_of_each_class(labels.astype(np.int64), np.array(counts), priorities)


def positions_of(
    dataset: Dataset, part: Mapping[str, Any] | None, *, seed: int
) -> Positions | None:
    """Positions of the samples that a run trains on; None for all.

    Args:
        dataset: The whole dataset, with its ``parts``.
        part: ``{"ids": digest}`` for one of the dataset's parts, ``{"counts": numbers}`` for random
            samples with these class counts, or None for all samples.
        seed: Seed of the run, which draws the random samples.
    """
    if part is None:
        return None
    if "ids" in part:
        return dataset.parts[part["ids"]]
    return random_part(dataset.train.labels.numpy(), part["counts"], seed=seed)


def samples_in(dataset: Dataset, part: Mapping[str, Any] | None) -> int:
    """Number of samples that a run trains on; ``part`` is given as in ``positions_of``."""
    if part is None:
        return len(dataset.train)
    return len(dataset.parts[part["ids"]]) if "ids" in part else sum(part["counts"])


def digest_of(positions: Positions) -> str:
    """Name of a part: 16 hex digits of SHA-256 over its ascending positions."""
    return hashlib.sha256(positions.astype("<i8").tobytes()).hexdigest()[:16]


def pruned(dataset: Dataset, positions: Positions | None) -> Dataset:
    """The dataset with only these training samples (None: all); ids and validation are kept."""
    if positions is None:
        return dataset
    return dataclasses.replace(
        dataset,
        train=dataset.train.take(torch.from_numpy(positions)),
        columns=dataset.columns.iloc[positions].reset_index(drop=True),
        parts={},
    )
