"""The samples that are planted into, and the random draws that choose among them."""

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
class Draws:
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
        return inside(self.of_rows(purpose))

    def normal(
        self, purpose: str, rows: Rows, shape: torch.Size
    ) -> Float64[np.ndarray, "rows channels height width"]:
        """Standard normal numbers in the shape of each of these rows' images."""
        n = math.prod(shape)
        raw = [self.raw(purpose, n, int(i)) for i in self.ids[rows]]
        return special.ndtri(inside(np.array(raw, dtype=np.uint64))).reshape(-1, *shape)


def inside(raw: UInt64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """Random bits as numbers between 0 and 1, never one of them."""
    return ((raw >> np.uint64(12)) + 0.5) * 2.0**-52


class Ground:
    """The training rows while they are planted."""

    def __init__(self, dataset: Dataset, plan: Planting, far: Dataset | None) -> None:
        self.dataset, self.overlap, self.far = dataset, plan.overlap, far
        self.classes = dataset.classes
        # The class to learn that each of the dataset's classes belongs to.
        self.groups = np.arange(len(dataset.classes))
        self.subgroup = False
        self.begin(dataset.train, dataset.columns)

    def keep(self, rows: Rows) -> None:
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
        self.free = {target: np.ones(len(self), dtype=bool) for target in (IMAGE, LABEL)}
        self.patches: list[tuple[Rows, Tensor]] = []
        self.hits: dict[str, _Mask] = {}
        self.truth: dict[str, Shaped[np.ndarray, " samples"]] = {}

    def __len__(self) -> int:
        return len(self.given)

    def draws(self, kind: str, seed: int | None) -> Draws:
        return Draws(
            kind=kind,
            seed=self.dataset.data_seed if seed is None else seed,
            ids=self.source.sample_ids.numpy(),
        )

    def choose(self, draws: Draws, count: int, able: _Mask, targets: Iterable[str]) -> Rows:
        """So many free rows out of those that are able, ascending; those of lowest priority."""
        free = np.flatnonzero(np.logical_and.reduce([able, *(self.free[t] for t in targets)]))
        if count > len(free):
            raise ValueError(
                f"rate: expected at most the {len(free)} samples that are free for it; got {count}"
            )
        order = np.argsort(draws.of_rows("choice")[free], kind="stable")
        return np.sort(free[order[:count]])

    def reserve(self, rows: Rows, targets: Iterable[str]) -> None:
        """Keep other kinds away from these rows' images or labels, or from all of the rows."""
        for target in targets if self.overlap else self.free:
            self.free[target][rows] = False

    def mark(self, kind: str, rows: Rows, truth: _Mask | None = None) -> None:
        """Write down the rows that a kind hit, and its truth if that is not the same."""
        self.hits[kind] = self.mask(rows)
        self.truth[kind] = self.hits[kind] if truth is None else truth

    def mask(self, rows: Rows) -> _Mask:
        mask = np.zeros(len(self), dtype=bool)
        mask[rows] = True
        return mask

    def relabel(self, kind: str, rows: Rows, labels: Int64[np.ndarray, " rows"]) -> None:
        assert (labels != self.true_labels[rows]).all()
        self.labels[rows] = labels
        self.reserve(rows, (LABEL,))
        self.mark(kind, rows)

    def images(self, rows: Rows) -> UInt8[Tensor, "rows channels height width"]:
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


def class_number(name: str | int, classes: tuple[str, ...], key: str) -> int:
    """A class by its name, else by its number."""
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
    """Of the rows that are able, each class's ``quotas[class]`` of lowest priority, ascending."""
    at = np.flatnonzero(able)
    return at[first_of_each_class(labels[at], quotas, priorities[at])]


def drawn(
    ground: Ground, kind: str, options: Drawn, target: str, able: _Mask | None = None
) -> tuple[Draws, Rows]:
    """A kind's random numbers and its rows: a share of those that are able, or of all."""
    draws = ground.draws(kind, options.seed)
    able = np.ones(len(ground), dtype=bool) if able is None else able
    count = share_of(options.rate, int(able.sum()))
    return draws, ground.choose(draws, count, able, (target,))
