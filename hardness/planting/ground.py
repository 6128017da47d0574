"""The training samples while they are changed, and the random draws that choose among them."""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float64, Int64, Shaped, UInt8, UInt64
from scipy import special
from torch import Tensor

from hardness.data.datasets import Dataset, content_digest
from hardness.data.source import SOURCE, Samples, first_of_each_class
from hardness.planting.options import PLANTED, SUBGROUP, TRUE_LABEL, TRUTH, Drawn, Planting
from hardness.seeding import raw_bits

Rows = Int64[np.ndarray, " rows"]
_Mask = Bool[np.ndarray, " samples"]
IMAGE, LABEL = "image", "label"


def share_of(rate: float, n: int) -> int:
    """A share of ``n``, rounded down, computed exactly from the decimal digits of the share.

    Raises:
        ValueError: If the result is 0.

    Example:
        >>> share_of(0.29, 100), int(0.29 * 100)
        (29, 28)
    """
    count = math.floor(Fraction(repr(rate)) * n)
    if not count:
        raise ValueError(f"rate: expected at least one of {n} samples; got {rate}")
    return count


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draws:
    """Random numbers for one kind of planting and one seed; each purpose has its own stream."""

    kind: str
    seed: int
    ids: Int64[np.ndarray, " samples"]

    def raw(self, purpose: str, n: int, *key: int) -> UInt64[np.ndarray, " {n}"]:
        """The first 64-bit numbers of a stream."""
        return raw_bits(n, self.seed, f"{self.kind}|{purpose}", *key)

    def of_rows(self, purpose: str) -> UInt64[np.ndarray, " samples"]:
        """One 64-bit number per row; it depends only on the row's sample id."""
        return self.raw(purpose, int(self.ids.max(initial=-1)) + 1)[self.ids]

    def below(self, purpose: str, bound: Any) -> Int64[np.ndarray, " samples"]:
        """One integer per row, at least 0 and below ``bound``, which may differ by row."""
        return (self.of_rows(purpose) % np.asarray(bound).astype(np.uint64)).astype(np.int64)

    def uniform(self, purpose: str) -> Float64[np.ndarray, " samples"]:
        """One number per row, above 0 and below 1."""
        return inside(self.of_rows(purpose))

    def normal(
        self, purpose: str, rows: Rows, shape: torch.Size
    ) -> Float64[np.ndarray, "rows channels height width"]:
        """Standard normal numbers for the images of these rows, each image of this shape."""
        n = math.prod(shape)
        raw = [self.raw(purpose, n, int(i)) for i in self.ids[rows]]
        return special.ndtri(inside(np.array(raw, dtype=np.uint64))).reshape(-1, *shape)


def inside(raw: UInt64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """Random bits as numbers above 0 and below 1."""
    return ((raw >> np.uint64(12)) + 0.5) * 2.0**-52


class Ground:
    """The training rows (samples) while kinds of hardness are planted into them."""

    def __init__(self, dataset: Dataset, plan: Planting, far: Dataset | None) -> None:
        self.dataset, self.overlap, self.far = dataset, plan.overlap, far
        self.classes = dataset.classes
        # For each class of the dataset, the class (or superclass) that is learned.
        self.groups = np.arange(len(dataset.classes))
        self.subgroup = False
        self.begin(dataset.train, dataset.columns)

    def keep(self, rows: Rows) -> None:
        """Drop all other rows, before anything is planted."""
        self.begin(
            self.source.take(torch.from_numpy(rows)),
            self.columns.iloc[rows].reset_index(drop=True),
        )

    def begin(self, source: Samples, columns: pd.DataFrame) -> None:
        """Start with these samples and their table of columns, nothing planted."""
        self.source, self.columns = source, columns
        self.given = self.source.labels.numpy()
        self.true_labels = self.groups[self.given]
        self.labels = self.true_labels.copy()
        self.free = {target: np.ones(len(self), dtype=bool) for target in (IMAGE, LABEL)}
        self.patches: list[tuple[Rows, Tensor]] = []
        self.hits: dict[str, _Mask] = {}
        self.truth: dict[str, Shaped[np.ndarray, " samples"]] = {}

    def __len__(self) -> int:
        return len(self.given)

    def draws(self, kind: str, seed: int | None) -> Draws:
        """Random numbers for a kind; the dataset's ``data_seed`` is used if there is no seed."""
        return Draws(
            kind=kind,
            seed=self.dataset.data_seed if seed is None else seed,
            ids=self.source.sample_ids.numpy(),
        )

    def choose(self, draws: Draws, count: int, able: _Mask, targets: Iterable[str]) -> Rows:
        """``count`` random rows, ascending, that are eligible and whose targets are all free."""
        free = np.flatnonzero(np.logical_and.reduce([able, *(self.free[t] for t in targets)]))
        if count > len(free):
            raise ValueError(
                f"rate: expected at most the {len(free)} samples that are free for it; got {count}"
            )
        order = np.argsort(draws.of_rows("choice")[free], kind="stable")
        return np.sort(free[order[:count]])

    def reserve(self, rows: Rows, targets: Iterable[str]) -> None:
        """Keep other kinds from these targets of the rows; without overlap, from the whole rows."""
        for target in targets if self.overlap else self.free:
            self.free[target][rows] = False

    def mark(self, kind: str, rows: Rows, truth: _Mask | None = None) -> None:
        """Record the rows that a kind changed, and its truth if that differs from them."""
        self.hits[kind] = self.mask(rows)
        self.truth[kind] = self.hits[kind] if truth is None else truth

    def mask(self, rows: Rows) -> _Mask:
        """True at these rows, False elsewhere."""
        mask = np.zeros(len(self), dtype=bool)
        mask[rows] = True
        return mask

    def relabel(self, kind: str, rows: Rows, labels: Int64[np.ndarray, " rows"]) -> None:
        """Give these rows wrong labels, and record that a kind did so."""
        assert (labels != self.true_labels[rows]).all()
        self.labels[rows] = labels
        self.reserve(rows, (LABEL,))
        self.mark(kind, rows)

    def images(self, rows: Rows) -> UInt8[Tensor, "rows channels height width"]:
        """Images of these rows, before anything is planted."""
        if not isinstance(self.source.images, Tensor):
            raise ValueError(  # noqa: TRY004 - it is the user's choice of dataset, not a type
                "expected images in memory; got images that are read from disk, of which only "
                "the labels can be changed"
            )
        return self.source.images[torch.from_numpy(rows)]

    def column(self, name: str) -> Shaped[np.ndarray, "samples ..."]:
        """A column of the source, with a number or a list of numbers in each row."""
        known = [c.removeprefix(SOURCE) for c in map(str, self.columns) if c.startswith(SOURCE)]
        if name not in known:
            raise ValueError(
                f"expected a column of the dataset; got {name!r}; known: "
                f"{', '.join(known) or 'none, since only parquet has columns'}"
            )
        return np.array(self.columns[SOURCE + name].tolist())

    def people(self, name: str) -> Int64[np.ndarray, " samples"]:
        """A column of labels, turned into the classes that are learned."""
        given = self.column(name)
        fit = given.ndim == 1 and np.isin(given, range(len(self.groups))).all()
        if not fit:
            raise ValueError(
                f"{name}: expected labels from 0 to {len(self.groups) - 1} in every row; got others"
            )
        return self.groups[given.astype(np.int64)]

    def planted(self) -> Dataset:
        """The dataset with the changed samples, and the truth in its columns."""
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


def class_number(name: str | int, classes: tuple[str, ...], key: str) -> int:
    """Number of a class that is given by its name or, if no name fits, by its number."""
    text = str(name)
    if text in classes:
        return classes.index(text)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    known = ", ".join(classes[:20]) + (", …" if len(classes) > 20 else "")  # noqa: PLR2004
    raise ValueError(f"{key}: unknown class {text!r}; known: {known}")


def lowest(
    labels: Int64[np.ndarray, " samples"],
    able: _Mask,
    quotas: Int64[np.ndarray, " classes"],
    priorities: UInt64[np.ndarray, " samples"],
) -> Rows:
    """Ascending eligible rows: in each class, the ``quotas[class]`` rows of lowest priority."""
    at = np.flatnonzero(able)
    return at[first_of_each_class(labels[at], quotas, priorities[at])]


def drawn(
    ground: Ground, kind: str, options: Drawn, target: str, able: _Mask | None = None
) -> tuple[Draws, Rows]:
    """Random numbers and rows for a kind: a share of the eligible rows; all rows are by default."""
    draws = ground.draws(kind, options.seed)
    able = np.ones(len(ground), dtype=bool) if able is None else able
    count = share_of(options.rate, int(able.sum()))
    return draws, ground.choose(draws, count, able, (target,))
