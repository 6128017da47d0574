"""Plant known hardness into a dataset, and record the truth about where it is.

Planting changes images or labels of training rows, or leaves rows out to make a group rare. It
never adds a row, and a row keeps its sample id. The random draws depend only on the seed, the kind
and the sample id. So neither another kind in the plan nor a larger rate changes them, and a larger
rate hits the rows of a smaller rate and more.

A row's image and its label are each changed at most once, since a second change could undo the
first. Validation samples stay as they are, except that their labels follow grouped classes.

Names of kinds follow the taxonomy of H-CAT, but the definitions differ. There, uniform noise draws
from all classes, so it flags right labels too (one in C flags with C classes). Some classes are
mistaken for themselves, and distorted images have another range than the others.
"""

from collections.abc import Callable
from typing import Any

from hardness.data.datasets import Dataset
from hardness.planting.ground import Ground
from hardness.planting.images import (
    atypical,
    duplicate,
    noise_image_blur,
    noise_image_gaussian,
    noise_image_mix,
    ood_far,
    ood_near,
)
from hardness.planting.labels import (
    human_labels,
    human_votes,
    noise_adjacent,
    noise_asymmetric,
    noise_human,
    noise_pair,
    noise_symmetric,
)
from hardness.planting.options import KINDS, PLANTED, TRUTH, Planting
from hardness.planting.rarity import long_tail, rare_subgroup


def plant(dataset: Dataset, plan: Planting, far: Dataset | None = None) -> Dataset:
    """Change training rows as planned, and record where.

    Args:
        dataset: Dataset after its subset and split.
        plan: Kinds of hardness to plant.
        far: Dataset that ``ood_far`` names; needed for that kind only.

    Returns:
        The dataset to train on. Its ``columns`` begin with ``true_label`` (the learned class before
        any noise), ``planted`` (the row's kinds joined by ``+``) and a ``truth_<kind>`` for each
        kind. The truth says whether the kind hit the row, or how much; high is hard.

    Raises:
        ValueError: If the dataset does not fit the plan: too few rows, an unknown class or column,
            or images that stay on disk.

    Example:
        >>> from hardness.data.datasets import load
        >>> from hardness.data.options import DatasetOptions
        >>> from hardness.planting.options import Drawn
        >>> digits = load(DatasetOptions(name="digits", subset=100), 0.2)
        >>> noisy = plant(digits, Planting(noise_symmetric=Drawn(rate=0.1)))
        >>> wrong = noisy.train.labels.numpy() != noisy.columns["true_label"]
        >>> int(wrong.sum()), int(noisy.columns["truth_noise_symmetric"].sum())
        (8, 8)

    References:
        Seedat, Imrie, van der Schaar, "Dissecting Sample Hardness: A Fine-Grained Analysis of
        Hardness Characterization Methods for Data-Centric AI", ICLR 2024 (the taxonomy). Wei et
        al., "Learning with Noisy Labels Revisited", ICLR 2022 (CIFAR-10N). Peterson et al.,
        "Human Uncertainty Makes Classification More Robust", ICCV 2019 (CIFAR-10H).
    """
    if PLANTED in dataset.columns:
        raise ValueError("expected a dataset in which nothing is planted; got a planted one")
    ground = Ground(dataset, plan, far)
    for kind in plan.kinds:
        try:
            _PLANTERS[kind](ground, kind, getattr(plan, kind))
        except ValueError as error:
            raise ValueError(f"{kind}: {error}") from error
    return ground.planted()


def described(dataset: Dataset) -> list[str]:
    """One line for each planted truth, with its exact count; no line if nothing is planted."""
    columns = dataset.columns
    if PLANTED not in columns:
        return []
    n, lines = len(columns), []
    for column in (c for c in map(str, columns) if c.startswith(TRUTH)):
        kind, truth = column.removeprefix(TRUTH), columns[column]
        line = f"truth: {kind}"
        if kind in KINDS:
            count = sum(kind in kinds.split("+") for kinds in columns[PLANTED])
            line = f"planted: {kind} in {count:,} of {n:,} samples ({count / n:.2%})"
        if truth.dtype != bool:
            line += f", graded from {truth.min():.3g} to {truth.max():.3g}"
        lines.append(line)
    return lines


_PLANTERS: dict[str, Callable[[Ground, str, Any], None]] = {
    "rare_subgroup": rare_subgroup,
    "long_tail": long_tail,
    "human_labels": human_labels,
    "human_votes": human_votes,
    "noise_human": noise_human,
    "duplicate": duplicate,
    "ood_far": ood_far,
    "ood_near": ood_near,
    "atypical": atypical,
    "noise_image_blur": noise_image_blur,
    "noise_image_gaussian": noise_image_gaussian,
    "noise_image_mix": noise_image_mix,
    "noise_asymmetric": noise_asymmetric,
    "noise_adjacent": noise_adjacent,
    "noise_pair": noise_pair,
    "noise_symmetric": noise_symmetric,
}
