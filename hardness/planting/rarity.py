"""Kinds that leave samples out: rare subgroups and long tails."""

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction

import numpy as np
from jaxtyping import Float64, Int64

from hardness.data.datasets import Dataset
from hardness.data.source import first_of_each_class
from hardness.planting.class_groups import SUPERCLASSES
from hardness.planting.ground import Draws, Ground, class_number
from hardness.planting.labels import class_count
from hardness.planting.options import LongTail, RareSubgroup


def rare_subgroup(ground: Ground, kind: str, options: RareSubgroup) -> None:
    """Join classes into superclasses, and make some of their classes rare."""
    members = _members(options.groups, ground.dataset)
    draws = ground.draws(kind, options.seed)
    order = draws.raw("order", len(ground.classes))
    step = np.zeros(len(ground.classes), dtype=np.int64)
    for group, (name, classes) in enumerate(members.items()):
        if not len(classes):
            raise ValueError(f"groups: expected classes in {name!r}; got none")
        ground.groups[classes] = group
        step[classes] = np.argsort(np.argsort(order[classes]))
    factor = Fraction(repr(options.factor))
    counts = np.bincount(ground.given, minlength=len(step))
    quotas = [math.floor(n * factor ** int(g)) for n, g in zip(counts, step, strict=True)]
    ground.classes, ground.subgroup = tuple(members), True
    _thin(ground, draws, counts, np.array(quotas))
    _mark_rare(ground, kind, -math.log2(options.factor) * step)


def long_tail(ground: Ground, kind: str, options: LongTail) -> None:
    """Shrink classes to exponentially falling sizes."""
    n_classes = class_count(ground)
    draws = ground.draws(kind, options.seed)
    tail = np.argsort(np.argsort(draws.raw("order", n_classes))) / (n_classes - 1)
    counts = np.bincount(ground.given, minlength=n_classes)
    _thin(ground, draws, counts, np.floor(counts / options.imbalance**tail).astype(np.int64))
    _mark_rare(ground, kind, math.log2(options.imbalance) * tail)


def _thin(
    ground: Ground,
    draws: Draws,
    counts: Int64[np.ndarray, " classes"],
    quotas: Int64[np.ndarray, " classes"],
) -> None:
    """Keep ``quotas[class]`` rows of each class, and at least one of a class that has rows."""
    quotas = np.maximum(quotas, np.minimum(counts, 1))
    ground.keep(first_of_each_class(ground.given, quotas, draws.of_rows("choice")))


def _mark_rare(ground: Ground, kind: str, halvings: Float64[np.ndarray, " classes"]) -> None:
    """Record rows of thinned classes as planted; their truth is the number of halvings."""
    truth = halvings[ground.given]
    ground.hits[kind], ground.truth[kind] = truth > 0, truth


def _members(
    groups: Mapping[str, Iterable[str | int]] | None, dataset: Dataset
) -> dict[str, Int64[np.ndarray, " classes"]]:
    """The classes of each superclass; every class belongs to exactly one superclass."""
    chosen = SUPERCLASSES.get(dataset.name) if groups is None else groups
    if chosen is None:
        raise ValueError(
            f"groups: expected a map from superclass to classes; got none, and none are known for "
            f"{dataset.name}, only for {' and '.join(SUPERCLASSES)}"
        )
    found = {
        name: np.array(
            [class_number(c, dataset.classes, "groups") for c in members], dtype=np.int64
        )
        for name, members in chosen.items()
    }
    every = np.concatenate([*found.values(), np.array([], dtype=np.int64)])
    times = np.bincount(every, minlength=len(dataset.classes))
    if (times != 1).any():
        wrong = int(np.flatnonzero(times != 1)[0])
        raise ValueError(
            f"groups: expected every class in one superclass; got {dataset.classes[wrong]!r} "
            f"in {times[wrong]}"
        )
    return found
