"""Known hardness, planted into a dataset, and the truth that says where.

Planting overwrites images or labels of training rows, or (to make a group rare) leaves rows out;
it never adds one, and a row keeps its sample id. Which rows are hit follows from the seed, the
kind and the sample id alone: a kind that is added elsewhere in the plan or a larger rate moves
none of the draws, and a larger rate hits the rows of a smaller one and more.

A row's image is overwritten once at most, and so is its label, since a second time could undo the
first. Validation stays as it is; where a plan groups classes, its labels follow.

The kinds follow the taxonomy of H-CAT, with which ours agree in name alone: there uniform noise
draws from all classes, so that about one flag in as many as there are classes marks a right label,
some classes are mistaken for themselves, and images come with a range of their own.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float64, Int64, Shaped, UInt8, UInt64
from scipy import special
from torch import Tensor

from hardness import distortion
from hardness.datasets import (
    SOURCE,
    Dataset,
    Samples,
    content_digest,
    first_of_each_class,
)
from hardness.plan import (
    KINDS,
    PLANTED,
    SUBGROUP,
    TRUE_LABEL,
    TRUTH,
    Atypical,
    Drawn,
    Duplicate,
    HumanLabels,
    HumanVotes,
    ImageBlur,
    ImageGaussian,
    ImageMix,
    LongTail,
    NoiseAsymmetric,
    NoiseHuman,
    OodFar,
    OodNear,
    Planting,
    RareSubgroup,
)
from hardness.seeding import raw_bits
from hardness.subgroups import CONFUSED, SUPERCLASSES

_Rows = Int64[np.ndarray, " rows"]
_Mask = Bool[np.ndarray, " samples"]
_IMAGE, _LABEL = "image", "label"


def plant(dataset: Dataset, plan: Planting, far: Dataset | None = None) -> Dataset:
    """Overwrite training rows as planned, and write down where.

    Args:
        dataset: After its subset and split.
        plan: What to plant.
        far: The dataset that ``ood_far`` names.

    Returns:
        The dataset to train on. Its ``columns`` begin with ``true_label`` (before any noise, of
        the classes that are learned), ``planted`` (the row's kinds joined by ``+``) and a
        ``truth_<kind>`` for each kind, where high is hard: whether it hit the row, or how much.

    Raises:
        ValueError: If the dataset cannot take the plan: too few rows, an unknown class or column,
            images that stay on disk.

    Example:
        >>> from hardness.datasets import DatasetOptions, load
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
    ground = _Ground(dataset, plan, far)
    for kind in plan.kinds:
        try:
            _PLANTERS[kind](ground, kind, getattr(plan, kind))
        except ValueError as error:
            raise ValueError(f"{kind}: {error}") from error
    return ground.planted()


def described(dataset: Dataset) -> list[str]:
    """One line for each truth that was planted, with its exact count; none without planting."""
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


def share_of(rate: float, n: int) -> int:
    """A share of ``n``, rounded down; the share is the decimal number that was written.

    Raises:
        ValueError: If that is none.

    Example:
        >>> share_of(0.29, 100), int(0.29 * 100)
        (29, 28)
    """
    count = math.floor(Fraction(repr(rate)) * n)
    if not count:
        raise ValueError(f"rate: expected at least one of {n} samples; got {rate}")
    return count


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Draws:
    """Random numbers of one kind under one seed, each purpose a stream of its own."""

    kind: str
    seed: int
    ids: Int64[np.ndarray, " samples"]

    def raw(self, purpose: str, n: int, *key: int) -> UInt64[np.ndarray, " {n}"]:
        """The stream's first 64-bit numbers."""
        return raw_bits(n, self.seed, f"{self.kind}|{purpose}", *key)

    def of_rows(self, purpose: str) -> UInt64[np.ndarray, " samples"]:
        """One number a row, which depends on the row's sample id alone."""
        return self.raw(purpose, int(self.ids.max(initial=-1)) + 1)[self.ids]

    def below(self, purpose: str, bound: Any) -> Int64[np.ndarray, " samples"]:
        """One whole number a row, from 0 to below a bound (or one bound a row)."""
        return (self.of_rows(purpose) % np.asarray(bound).astype(np.uint64)).astype(np.int64)

    def uniform(self, purpose: str) -> Float64[np.ndarray, " samples"]:
        """One number a row, inside the interval from 0 to 1."""
        return _inside(self.of_rows(purpose))

    def normal(
        self, purpose: str, rows: _Rows, shape: torch.Size
    ) -> Float64[np.ndarray, "rows channels height width"]:
        """Standard normal numbers in the shape of each of these rows' images."""
        n = math.prod(shape)
        raw = [self.raw(purpose, n, int(i)) for i in self.ids[rows]]
        return special.ndtri(_inside(np.array(raw, dtype=np.uint64))).reshape(-1, *shape)


def _inside(raw: UInt64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """Random bits as numbers between 0 and 1, never one of them."""
    return ((raw >> np.uint64(12)) + 0.5) * 2.0**-52


class _Ground:
    """The training rows while they are planted."""

    def __init__(self, dataset: Dataset, plan: Planting, far: Dataset | None) -> None:
        self.dataset, self.overlap, self.far = dataset, plan.overlap, far
        self.classes = dataset.classes
        # The class to learn that each of the dataset's classes belongs to.
        self.groups = np.arange(len(dataset.classes))
        self.subgroup = False
        self.begin(dataset.train, dataset.columns)

    def keep(self, rows: _Rows) -> None:
        """Go on with these rows alone, of which nothing is planted yet."""
        self.begin(
            self.source.take(torch.from_numpy(rows)),
            self.columns.iloc[rows].reset_index(drop=True),
        )

    def begin(self, source: Samples, columns: pd.DataFrame) -> None:
        self.source, self.columns = source, columns
        self.given = self.source.labels.numpy()
        self.true_labels = self.groups[self.given]
        self.labels = self.true_labels.copy()
        self.free = {target: np.ones(len(self), dtype=bool) for target in (_IMAGE, _LABEL)}
        self.patches: list[tuple[_Rows, Tensor]] = []
        self.hits: dict[str, _Mask] = {}
        self.truth: dict[str, Shaped[np.ndarray, " samples"]] = {}

    def __len__(self) -> int:
        return len(self.given)

    def draws(self, kind: str, seed: int | None) -> _Draws:
        return _Draws(
            kind=kind,
            seed=self.dataset.data_seed if seed is None else seed,
            ids=self.source.sample_ids.numpy(),
        )

    def choose(self, draws: _Draws, count: int, able: _Mask, targets: Iterable[str]) -> _Rows:
        """So many free rows out of those that are able, ascending; those of lowest priority."""
        free = np.flatnonzero(np.logical_and.reduce([able, *(self.free[t] for t in targets)]))
        if count > len(free):
            raise ValueError(
                f"rate: expected at most the {len(free)} samples that are free for it; got {count}"
            )
        order = np.argsort(draws.of_rows("choice")[free], kind="stable")
        return np.sort(free[order[:count]])

    def reserve(self, rows: _Rows, targets: Iterable[str]) -> None:
        """Keep other kinds away from these rows' images or labels, or from all of the rows."""
        for target in targets if self.overlap else self.free:
            self.free[target][rows] = False

    def mark(self, kind: str, rows: _Rows, truth: _Mask | None = None) -> None:
        """Write down the rows that a kind hit, and its truth if that is not the same."""
        self.hits[kind] = self.mask(rows)
        self.truth[kind] = self.hits[kind] if truth is None else truth

    def mask(self, rows: _Rows) -> _Mask:
        mask = np.zeros(len(self), dtype=bool)
        mask[rows] = True
        return mask

    def relabel(self, kind: str, rows: _Rows, labels: Int64[np.ndarray, " rows"]) -> None:
        assert (labels != self.true_labels[rows]).all()
        self.labels[rows] = labels
        self.reserve(rows, (_LABEL,))
        self.mark(kind, rows)

    def images(self, rows: _Rows) -> UInt8[Tensor, "rows channels height width"]:
        """These rows' images as they came, whatever is planted."""
        if not isinstance(self.source.images, Tensor):
            raise ValueError(  # noqa: TRY004 - it is the user's choice of dataset, not a type
                "expected images in memory; got images that are read from disk, of which labels "
                "alone can be planted"
            )
        return self.source.images[torch.from_numpy(rows)]

    def column(self, name: str) -> Shaped[np.ndarray, "samples ..."]:
        """A column of the source, numbers or one list of numbers a row."""
        known = [c.removeprefix(SOURCE) for c in map(str, self.columns) if c.startswith(SOURCE)]
        if name not in known:
            raise ValueError(
                f"expected a column of the dataset; got {name!r}; known: "
                f"{', '.join(known) or 'none, since only parquet has columns'}"
            )
        return np.array(self.columns[SOURCE + name].tolist())

    def people(self, name: str) -> Int64[np.ndarray, " samples"]:
        """A column of labels, of the classes that are learned."""
        given = self.column(name)
        fit = given.ndim == 1 and np.isin(given, range(len(self.groups))).all()
        if not fit:
            raise ValueError(
                f"{name}: expected labels from 0 to {len(self.groups) - 1} in every row; got others"
            )
        return self.groups[given.astype(np.int64)]

    def planted(self) -> Dataset:
        """The dataset with all that was planted and the truth beside it."""
        images, held = self.source.images, self.dataset.validation
        if self.patches:
            assert isinstance(images, Tensor)
            images = images.clone()
            for rows, pixels in self.patches:
                images[torch.from_numpy(rows)] = pixels
        train = Samples(
            images=images,
            labels=torch.from_numpy(self.labels),
            sample_ids=self.source.sample_ids,
        )
        labels = torch.from_numpy(self.groups[held.labels.numpy()])
        held = dataclasses.replace(held, labels=labels)
        kinds = [[kind for kind, hit in self.hits.items() if hit[row]] for row in range(len(self))]
        columns: dict[str, Any] = {
            TRUE_LABEL: self.true_labels,
            PLANTED: ["+".join(names) for names in kinds],
        }
        if self.subgroup:
            columns[SUBGROUP] = self.given
        columns |= {TRUTH + name: values for name, values in self.truth.items()}
        table = self.columns.copy()
        for at, (name, values) in enumerate(columns.items()):
            table.insert(at, name, values)
        return dataclasses.replace(
            self.dataset,
            classes=self.classes,
            train=train,
            validation=held,
            columns=table,
            digest=content_digest(self.classes, train, held),
        )


# Rarity: rows left out


def _rare_subgroup(ground: _Ground, kind: str, options: RareSubgroup) -> None:
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


def _long_tail(ground: _Ground, kind: str, options: LongTail) -> None:
    n_classes = _several(ground)
    draws = ground.draws(kind, options.seed)
    tail = np.argsort(np.argsort(draws.raw("order", n_classes))) / (n_classes - 1)
    counts = np.bincount(ground.given, minlength=n_classes)
    _thin(ground, draws, counts, np.floor(counts / options.imbalance**tail).astype(np.int64))
    _mark_rare(ground, kind, math.log2(options.imbalance) * tail)


def _thin(
    ground: _Ground,
    draws: _Draws,
    counts: Int64[np.ndarray, " classes"],
    quotas: Int64[np.ndarray, " classes"],
) -> None:
    """Keep so many rows of each class, at least one where there is any."""
    quotas = np.maximum(quotas, np.minimum(counts, 1))
    ground.keep(first_of_each_class(ground.given, quotas, draws.of_rows("choice")))


def _mark_rare(ground: _Ground, kind: str, halvings: Float64[np.ndarray, " classes"]) -> None:
    """Rows count as planted in all classes but the whole ones; the truth is how rare they are."""
    truth = halvings[ground.given]
    ground.hits[kind], ground.truth[kind] = truth > 0, truth


def _members(
    groups: Mapping[str, Iterable[str | int]] | None, dataset: Dataset
) -> dict[str, Int64[np.ndarray, " classes"]]:
    """The classes of each superclass; every class belongs to one."""
    chosen = SUPERCLASSES.get(dataset.name) if groups is None else groups
    if chosen is None:
        raise ValueError(
            f"groups: expected superclass to classes; got none, and {dataset.name} has no "
            f"superclasses of its own, as {' and '.join(SUPERCLASSES)} have"
        )
    found = {
        name: np.array([_class(c, dataset.classes, "groups") for c in members], dtype=np.int64)
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


def _class(name: str | int, classes: tuple[str, ...], key: str) -> int:
    """A class by its name, else by its number."""
    text = str(name)
    if text in classes:
        return classes.index(text)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    known = ", ".join(classes[:20]) + (", …" if len(classes) > 20 else "")  # noqa: PLR2004
    raise ValueError(f"{key}: unknown class {text!r}; known: {known}")


def _several(ground: _Ground) -> int:
    if len(ground.classes) < 2:  # noqa: PLR2004
        raise ValueError(f"expected at least 2 classes; got {len(ground.classes)}")
    return len(ground.classes)


# People: their labels and votes


def _human_labels(ground: _Ground, _kind: str, options: HumanLabels) -> None:
    wrong = [ground.people(column) != ground.true_labels for column in options.columns]
    ground.truth["human_errors"] = np.sum(wrong, axis=0).astype(np.float64)


def _human_votes(ground: _Ground, _kind: str, options: HumanVotes) -> None:
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
    # Sorted, so that the same votes for other classes give the same bits, which is a tie.
    ground.truth["human_entropy"] = special.entr(np.sort(shares, axis=1)).sum(axis=1)
    ground.truth["human_disagreement"] = 1 - shares[np.arange(len(ground)), ground.true_labels]


def _noise_human(ground: _Ground, kind: str, options: NoiseHuman) -> None:
    labels = ground.people(options.column)
    rows = np.flatnonzero(labels != ground.true_labels)
    if not len(rows):
        raise ValueError(f"{options.column}: expected labels unlike the dataset's; got the same")
    ground.relabel(kind, rows, labels[rows])


# Labels


def _noise_symmetric(ground: _Ground, kind: str, options: Drawn) -> None:
    n_classes = _several(ground)
    draws, rows = _drawn(ground, kind, options, _LABEL)
    # One to C - 1 classes further: never the true one, each other one alike.
    further = 1 + draws.below("label", n_classes - 1)
    ground.relabel(kind, rows, (ground.true_labels + further)[rows] % n_classes)


def _noise_pair(ground: _Ground, kind: str, options: Drawn) -> None:
    n_classes = _several(ground)
    _, rows = _drawn(ground, kind, options, _LABEL)
    ground.relabel(kind, rows, (ground.true_labels[rows] + 1) % n_classes)


def _noise_adjacent(ground: _Ground, kind: str, options: Drawn) -> None:
    n_classes = _several(ground)
    draws, rows = _drawn(ground, kind, options, _LABEL)
    true = ground.true_labels
    up = np.where(true == 0, 1, np.where(true == n_classes - 1, 0, draws.below("label", 2)))
    ground.relabel(kind, rows, (true + 2 * up - 1)[rows])


def _noise_asymmetric(ground: _Ground, kind: str, options: NoiseAsymmetric) -> None:
    _several(ground)
    if options.concentration is None:
        taken_for = _taken_for(options.classes, ground)
        _, rows = _drawn(ground, kind, options, _LABEL, taken_for[ground.true_labels] >= 0)
        ground.relabel(kind, rows, taken_for[ground.true_labels[rows]])
        return
    draws, rows = _drawn(ground, kind, options, _LABEL)
    mistakes = _mistakes(draws, len(ground.classes), options.concentration)
    # The first class at which the cumulated share exceeds the number: never one of share 0.
    exceeds = mistakes[ground.true_labels] > draws.uniform("label")[:, None]
    ground.relabel(kind, rows, exceeds.argmax(axis=1)[rows])


def _taken_for(
    classes: Mapping[str, str | int] | None, ground: _Ground
) -> Int64[np.ndarray, " classes"]:
    """The class that each is mistaken for; -1 for none."""
    chosen = CONFUSED.get(ground.dataset.name) if classes is None else classes
    if chosen is None:
        raise ValueError(
            "classes: expected class to the class that it is taken for, or a concentration; got "
            f"none, and none are known of {ground.dataset.name}"
        )
    taken_for = np.full(len(ground.classes), -1)
    for true, wrong in chosen.items():
        at, to = (_class(name, ground.classes, "classes") for name in (true, wrong))
        if at == to:
            raise ValueError(f"classes: expected another class for {true!r}; got the same")
        taken_for[at] = to
    return taken_for


def _mistakes(
    draws: _Draws, n_classes: int, concentration: float
) -> Float64[np.ndarray, "classes classes"]:
    """Cumulated shares of the classes that each is mistaken for, from Dirichlet distributions."""
    uniform = _inside(draws.raw("mistakes", n_classes**2)).reshape(n_classes, n_classes)
    weights = special.gammaincinv(concentration, uniform)
    # Not itself: a mistake that is none would be flagged as one.
    np.fill_diagonal(weights, 0)
    cumulated = weights.cumsum(axis=1)
    return cumulated / cumulated[:, -1:]


# Images


def _noise_image_blur(ground: _Ground, kind: str, options: ImageBlur) -> None:
    _, rows = _drawn(ground, kind, options, _IMAGE)
    _repaint(ground, kind, rows, distortion.blurred(ground.images(rows), options.sigma))


def _noise_image_gaussian(ground: _Ground, kind: str, options: ImageGaussian) -> None:
    draws, rows = _drawn(ground, kind, options, _IMAGE)
    images = ground.images(rows)
    normal = draws.normal("noise", rows, images.shape[1:])
    _repaint(ground, kind, rows, distortion.noisy(images, options.sigma, normal))


def _noise_image_mix(ground: _Ground, kind: str, options: ImageMix) -> None:
    draws, rows = _drawn(ground, kind, options, _IMAGE)
    partners = _of_another_class(ground.true_labels, draws)[rows]
    mix = distortion.mixed(ground.images(rows), ground.images(partners), options.share)
    _repaint(ground, kind, rows, mix)


def _of_another_class(labels: Int64[np.ndarray, " samples"], draws: _Draws) -> _Rows:
    """For each row one of all the rows of other classes."""
    counts = np.bincount(labels)
    others = len(labels) - counts
    if not others[labels].all():
        raise ValueError("expected samples of at least 2 classes; got one class")
    first = np.cumsum(counts) - counts
    at = draws.below("partner", others[labels])
    # In the order of classes, the row's own class is skipped.
    at += np.where(at >= first[labels], counts[labels], 0)
    return np.argsort(labels, kind="stable")[at]


def _ood_near(ground: _Ground, kind: str, options: OodNear) -> None:
    shift = {"invert": distortion.negative, "rotate": distortion.turned}[options.shift]
    _, rows = _drawn(ground, kind, options, _IMAGE)
    _repaint(ground, kind, rows, shift(ground.images(rows)))


def _ood_far(ground: _Ground, kind: str, options: OodFar) -> None:
    draws, rows = _drawn(ground, kind, options, _IMAGE)
    if ground.far is None or ground.far.name != options.dataset.name:
        raise ValueError(f"dataset: expected {options.dataset.name}; got another one or none")
    far = ground.far.train
    embedded = ground.far.name not in ("parquet", "imagefolder", "imagenet")
    if ground.far.digest == ground.dataset.digest or (
        embedded and ground.far.name == ground.dataset.name
    ):
        raise ValueError("dataset: expected another dataset than the one planted; got the same")
    if len(rows) > len(far):
        raise ValueError(f"dataset: expected at least {len(rows)} training samples; got {len(far)}")
    shape = ground.images(rows).shape[1:]
    sources = np.argsort(draws.raw("source", len(far)), kind="stable")[: len(rows)]
    # In the order of drawing, so that a larger rate leaves these rows their images.
    rows = rows[np.argsort(draws.of_rows("choice")[rows], kind="stable")]
    images = distortion.fitted(far.read(torch.from_numpy(sources)), *shape)
    _repaint(ground, kind, rows, images)


def _atypical(ground: _Ground, kind: str, options: Atypical) -> None:
    draws, rows = _drawn(ground, kind, options, _IMAGE)
    size, center = np.ones(len(ground)), np.zeros((len(ground), 2))
    on = {"zoom": options.zoom > 1, "shift": options.shift > 0, "crop": options.crop < 1}
    names = np.array([name for name, used in on.items() if used])
    operation = names[draws.below("operation", len(names))]
    size[operation == "zoom"] = options.zoom
    size[operation == "crop"] = options.crop
    across, way = divmod(draws.below("direction", 4), 2)
    shifted = operation == "shift"
    center[shifted, across[shifted]] = (2 * options.shift * (2 * way - 1))[shifted]
    anywhere = np.stack([draws.uniform("left"), draws.uniform("top")], axis=1)
    cropped = operation == "crop"
    center[cropped] = ((1 - options.crop) * (2 * anywhere - 1))[cropped]
    images = distortion.windowed(
        ground.images(rows), torch.from_numpy(size[rows]), torch.from_numpy(center[rows])
    )
    _repaint(ground, kind, rows, images)


def _duplicate(ground: _Ground, kind: str, options: Duplicate) -> None:
    draws = ground.draws(kind, options.seed)
    count = share_of(options.rate, len(ground))
    # Whoever is copied must stay as it is, so half of a class's free rows at most are copies.
    free = np.logical_and(*ground.free.values())
    labels = ground.true_labels
    halves = np.bincount(labels[free], minlength=len(ground.classes)) // 2
    able = ground.mask(_lowest(labels, free, halves, draws.of_rows("choice")))
    rows = ground.choose(draws, count, able, (_IMAGE, _LABEL))
    copies = np.bincount(labels[rows], minlength=len(ground.classes))
    priorities = draws.of_rows("source")
    sources = _lowest(labels, free & ~ground.mask(rows), copies, priorities)
    rows, sources = (at[np.argsort(labels[at], kind="stable")] for at in (rows, sources))
    images = ground.images(sources)
    if options.sigma:
        normal = draws.normal("noise", rows, images.shape[1:])
        images = distortion.noisy(images, options.sigma, normal)
    ground.patches.append((rows, images))
    for both in (rows, sources):
        ground.reserve(both, (_IMAGE, _LABEL))
    # Nothing but the sample id tells a copy from the original.
    ground.mark(kind, rows, ground.mask(np.concatenate([rows, sources])))


def _lowest(
    labels: Int64[np.ndarray, " samples"],
    able: _Mask,
    quotas: Int64[np.ndarray, " classes"],
    priorities: UInt64[np.ndarray, " samples"],
) -> _Rows:
    """Of the rows that are able, each class's ``quotas[class]`` of lowest priority, ascending."""
    at = np.flatnonzero(able)
    return at[first_of_each_class(labels[at], quotas, priorities[at])]


def _drawn(
    ground: _Ground, kind: str, options: Drawn, target: str, able: _Mask | None = None
) -> tuple[_Draws, _Rows]:
    """A kind's random numbers and its rows: a share of those that are able, or of all."""
    draws = ground.draws(kind, options.seed)
    able = np.ones(len(ground), dtype=bool) if able is None else able
    count = share_of(options.rate, int(able.sum()))
    return draws, ground.choose(draws, count, able, (target,))


def _repaint(
    ground: _Ground, kind: str, rows: _Rows, images: UInt8[Tensor, "rows channels height width"]
) -> None:
    ground.patches.append((rows, images))
    ground.reserve(rows, (_IMAGE,))
    ground.mark(kind, rows)


_PLANTERS: dict[str, Callable[[_Ground, str, Any], None]] = {
    "rare_subgroup": _rare_subgroup,
    "long_tail": _long_tail,
    "human_labels": _human_labels,
    "human_votes": _human_votes,
    "noise_human": _noise_human,
    "duplicate": _duplicate,
    "ood_far": _ood_far,
    "ood_near": _ood_near,
    "atypical": _atypical,
    "noise_image_blur": _noise_image_blur,
    "noise_image_gaussian": _noise_image_gaussian,
    "noise_image_mix": _noise_image_mix,
    "noise_asymmetric": _noise_asymmetric,
    "noise_adjacent": _noise_adjacent,
    "noise_pair": _noise_pair,
    "noise_symmetric": _noise_symmetric,
}
