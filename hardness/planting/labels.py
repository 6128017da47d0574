"""Kinds that change labels: wrong labels, drawn at random or given by people."""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64, Int64
from scipy import special

from hardness.planting.class_groups import CONFUSED
from hardness.planting.ground import LABEL, Draws, Ground, class_number, drawn, inside
from hardness.planting.options import Drawn, HumanLabels, HumanVotes, NoiseAsymmetric, NoiseHuman


def class_count(ground: Ground) -> int:
    """Number of classes; fewer than two are refused."""
    if len(ground.classes) < 2:  # noqa: PLR2004
        raise ValueError(f"expected at least 2 classes; got {len(ground.classes)}")
    return len(ground.classes)


def human_labels(ground: Ground, _kind: str, options: HumanLabels) -> None:
    """Record as truth how many people's labels are wrong."""
    wrong = [ground.people(column) != ground.true_labels for column in options.columns]
    ground.truth["human_errors"] = np.sum(wrong, axis=0).astype(np.float64)


def human_votes(ground: Ground, _kind: str, options: HumanVotes) -> None:
    """Record as truth the entropy of people's votes and their share against the label."""
    counts = ground.column(options.column)
    if counts.ndim == 1 or counts.shape[1] != len(ground.groups) or not (counts >= 0).all():
        raise ValueError(
            f"{options.column}: expected {len(ground.groups)} counts of 0 or more in every row; "
            "got others"
        )
    votes = counts @ np.eye(len(ground.classes))[ground.groups]
    total = votes.sum(axis=1)
    asked = total > 0
    shares = np.full_like(votes, math.nan)
    shares[asked] = votes[asked] / total[asked, None]
    # Sorted, so that the same vote counts in another order of classes give exactly equal sums.
    ground.truth["human_entropy"] = special.entr(np.sort(shares, axis=1)).sum(axis=1)
    ground.truth["human_disagreement"] = 1 - shares[np.arange(len(ground)), ground.true_labels]


def noise_human(ground: Ground, kind: str, options: NoiseHuman) -> None:
    """Replace labels by people's labels."""
    labels = ground.people(options.column)
    rows = np.flatnonzero(labels != ground.true_labels)
    if not len(rows):
        raise ValueError(f"{options.column}: expected labels unlike the dataset's; got the same")
    ground.relabel(kind, rows, labels[rows])


def noise_symmetric(ground: Ground, kind: str, options: Drawn) -> None:
    """Replace labels by any other class, each equally likely."""
    n_classes = class_count(ground)
    draws, rows = drawn(ground, kind, options, LABEL)
    # Adding 1 to C - 1, modulo C, never gives the true class.
    further = 1 + draws.below("label", n_classes - 1)
    ground.relabel(kind, rows, (ground.true_labels + further)[rows] % n_classes)


def noise_pair(ground: Ground, kind: str, options: Drawn) -> None:
    """Replace labels by the next class; the first class follows the last."""
    n_classes = class_count(ground)
    _, rows = drawn(ground, kind, options, LABEL)
    ground.relabel(kind, rows, (ground.true_labels[rows] + 1) % n_classes)


def noise_adjacent(ground: Ground, kind: str, options: Drawn) -> None:
    """Replace labels by the class before or after; the first and last are no neighbors."""
    n_classes = class_count(ground)
    draws, rows = drawn(ground, kind, options, LABEL)
    true = ground.true_labels
    up = np.where(true == 0, 1, np.where(true == n_classes - 1, 0, draws.below("label", 2)))
    ground.relabel(kind, rows, (true + 2 * up - 1)[rows])


def noise_asymmetric(ground: Ground, kind: str, options: NoiseAsymmetric) -> None:
    """Replace labels by classes that are often confused with the true one."""
    class_count(ground)
    if options.concentration is None:
        taken_for = _taken_for(options.classes, ground)
        _, rows = drawn(ground, kind, options, LABEL, taken_for[ground.true_labels] >= 0)
        ground.relabel(kind, rows, taken_for[ground.true_labels[rows]])
        return
    draws, rows = drawn(ground, kind, options, LABEL)
    mistakes = _mistakes(draws, len(ground.classes), options.concentration)
    # The first class whose cumulated share exceeds the number never has a share of 0.
    exceeds = mistakes[ground.true_labels] > draws.uniform("label")[:, None]
    ground.relabel(kind, rows, exceeds.argmax(axis=1)[rows])


def _taken_for(
    classes: Mapping[str, str | int] | None, ground: Ground
) -> Int64[np.ndarray, " classes"]:
    """The class that each class is mistaken for; -1 for none."""
    chosen = CONFUSED.get(ground.dataset.name) if classes is None else classes
    if chosen is None:
        raise ValueError(
            "classes: expected a map from class to wrong class, or a concentration; got neither, "
            f"and no classes are known for {ground.dataset.name}"
        )
    taken_for = np.full(len(ground.classes), -1)
    for true, wrong in chosen.items():
        at, to = (class_number(name, ground.classes, "classes") for name in (true, wrong))
        if at == to:
            raise ValueError(f"classes: expected another class for {true!r}; got the same")
        taken_for[at] = to
    return taken_for


def _mistakes(
    draws: Draws, n_classes: int, concentration: float
) -> Float64[np.ndarray, "classes classes"]:
    """Cumulated shares of the wrong classes of each class, drawn from Dirichlet distributions."""
    uniform = inside(draws.raw("mistakes", n_classes**2)).reshape(n_classes, n_classes)
    weights = special.gammaincinv(concentration, uniform)
    # A class is not mistaken for itself: a right label would be flagged as wrong.
    np.fill_diagonal(weights, 0)
    cumulated = weights.cumsum(axis=1)
    return cumulated / cumulated[:, -1:]
