"""Options of planting: the kinds of known hardness under ``plant:`` in an experiment file."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from hardness.data.options import DatasetOptions

# Columns that planting adds to the table of samples.
TRUE_LABEL = "true_label"
PLANTED = "planted"
SUBGROUP = "subgroup"
TRUTH = "truth_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Rows drawn at random.

    Args:
        rate: Share of the eligible samples to change; the number of samples is rounded down.
        seed: Seed that draws rows and values; the dataset's ``data_seed`` if left out.

    Raises:
        ValueError: If a number is out of range.
    """

    rate: float
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate: expected a share above 0, up to 1; got {self.rate}")
        _check_seed(self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseAsymmetric(Drawn):
    """Wrong labels that follow typical confusions between classes.

    Args:
        classes: Map from a class to the wrong class that replaces it, by name or number. The rate
            is a share of these classes' samples. If left out, the map of Patrini et al. (2017)
            for ``cifar10`` and ``mnist``.
        concentration: Parameter of a symmetric Dirichlet distribution, used instead of ``classes``.
            It draws each class's distribution over wrong classes; low values prefer one class.
    """

    classes: dict[str, str | int] | None = None
    concentration: float | None = None

    def __post_init__(self) -> None:
        # super() fails in a dataclass with slots, which is a copy of the class in this code.
        Drawn.__post_init__(self)
        if self.classes is not None and self.concentration is not None:
            raise ValueError("expected classes or concentration; got both")
        if self.classes is not None and not self.classes:
            raise ValueError("classes: expected at least one; got none")
        if self.concentration is not None and not 0.05 <= self.concentration < math.inf:  # noqa: PLR2004
            raise ValueError(
                f"concentration: expected a number of 0.05 or more; got {self.concentration}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseHuman:
    """Labels by people, used for training; labels that differ from the dataset's are planted.

    Args:
        column: Column of labels in a parquet source, such as CIFAR-10N's ``worse_label``.
    """

    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanLabels:
    """Labels by people, used only as graded truth: how many differ from the dataset's label.

    Args:
        columns: Columns of labels in a parquet source, such as CIFAR-10N's ``random_label1``.
    """

    columns: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.columns or len({*self.columns}) < len(self.columns):
            raise ValueError(f"columns: expected different columns; got {[*self.columns]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanVotes:
    """Votes by people, used only as graded truth: their entropy, and the share against the label.

    Args:
        column: Column of a parquet source with a list of one count per class in each row, such as
            CIFAR-10H's ``human_counts``.
    """

    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBlur(Drawn):
    """Gaussian blur with a standard deviation of ``sigma`` pixels."""

    sigma: float = 1.0

    def __post_init__(self) -> None:
        Drawn.__post_init__(self)
        _check_positive("sigma", self.sigma)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageGaussian(Drawn):
    """Gaussian noise with a standard deviation of ``sigma``, on the scale from 0 to 255."""

    sigma: float = 25.0

    def __post_init__(self) -> None:
        Drawn.__post_init__(self)
        _check_positive("sigma", self.sigma)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMix(Drawn):
    """Convex mix with an image of another class; the other image has the weight ``share``."""

    share: float = 0.5

    def __post_init__(self) -> None:
        Drawn.__post_init__(self)
        if not 0 < self.share <= 0.5:  # noqa: PLR2004 - more, and the label would be the other one
            raise ValueError(f"share: expected a share above 0, up to 0.5; got {self.share}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OodNear(Drawn):
    """Images that are inverted or rotated, which does not change the object that they show."""

    shift: Literal["invert", "rotate"] = "invert"


@dataclass(frozen=True, slots=True, kw_only=True)
class OodFar(Drawn):
    """Images of another dataset, with the labels of the images that they replace.

    Args:
        dataset: Options of the other dataset. Each of its training samples is used at most once.
    """

    dataset: DatasetOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Atypical(Drawn):
    """Badly framed images, each by one random operation out of three.

    Args:
        zoom: Factor by which the content is made smaller; 1 for no zoom.
        shift: Share of the side by which the content moves up, down, left or right; 0 for no shift.
        crop: Side of a randomly placed crop, as a share of the image's side; 1 for no crop.
    """

    zoom: float = 2.0
    shift: float = 0.3
    crop: float = 0.5

    def __post_init__(self) -> None:
        Drawn.__post_init__(self)
        if not 1 <= self.zoom < math.inf:
            raise ValueError(f"zoom: expected 1 or more; got {self.zoom}")
        if not 0 <= self.shift < 1:
            raise ValueError(f"shift: expected a share from 0, below 1; got {self.shift}")
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop: expected a share above 0, up to 1; got {self.crop}")
        if (self.zoom, self.shift, self.crop) == (1, 0, 1):
            raise ValueError("expected a zoom, a shift or a crop; got none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate(Drawn):
    """Images that are replaced by another sample's of the same class; each is copied only once.

    Args:
        sigma: Standard deviation of Gaussian noise on the copy, on the scale from 0 to 255; 0 for
            exact duplicates.
    """

    sigma: float = 0.0

    def __post_init__(self) -> None:
        Drawn.__post_init__(self)
        if not 0 <= self.sigma < math.inf:
            raise ValueError(f"sigma: expected 0 or more; got {self.sigma}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RareSubgroup:
    """Superclasses with rare subgroups: the share ``factor ** g`` of subgroup ``g`` stays.

    Args:
        groups: Map from a superclass to its classes, by name or number. If left out, CIFAR-100's
            own superclasses, and animals and vehicles for ``cifar10``.
        factor: Ratio of the shares that stay of one subgroup and of the one before it.
        seed: Seed that draws the order of subgroups and the rows that stay; the dataset's
            ``data_seed`` if left out.
    """

    groups: dict[str, tuple[str | int, ...]] | None = None
    factor: float = 0.5
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.factor < 1:
            raise ValueError(f"factor: expected a share between 0 and 1; got {self.factor}")
        _check_seed(self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class LongTail:
    """Classes of exponentially falling size (Cui et al., CVPR 2019).

    Args:
        imbalance: Ratio of the shares that stay of the largest and of the smallest class.
        seed: Seed that draws the order of classes and the rows that stay; the dataset's
            ``data_seed`` if left out.
    """

    imbalance: float = 100.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 1 < self.imbalance < math.inf:
            raise ValueError(f"imbalance: expected more than 1; got {self.imbalance}")
        _check_seed(self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planting:
    """What an experiment file says under ``plant:``; every kind is off by default.

    Args:
        overlap: Whether one kind may change the image and another kind the label of the same row.
            Kinds of rarity only leave rows out, and combine with every kind.

    Raises:
        ValueError: If both kinds of rarity are asked for, or no kind is.

    Example:
        >>> plan = Planting(noise_symmetric=Drawn(rate=0.1))
        >>> plan.kinds
        ('noise_symmetric',)
    """

    rare_subgroup: RareSubgroup | None = None
    long_tail: LongTail | None = None
    human_labels: HumanLabels | None = None
    human_votes: HumanVotes | None = None
    noise_human: NoiseHuman | None = None
    duplicate: Duplicate | None = None
    ood_far: OodFar | None = None
    ood_near: OodNear | None = None
    atypical: Atypical | None = None
    noise_image_blur: ImageBlur | None = None
    noise_image_gaussian: ImageGaussian | None = None
    noise_image_mix: ImageMix | None = None
    noise_asymmetric: NoiseAsymmetric | None = None
    noise_adjacent: Drawn | None = None
    noise_pair: Drawn | None = None
    noise_symmetric: Drawn | None = None
    overlap: bool = False

    def __post_init__(self) -> None:
        if self.rare_subgroup and self.long_tail:
            raise ValueError("expected rare_subgroup or long_tail; got both")
        if not self.kinds:
            raise ValueError(f"expected at least one of {', '.join(KINDS)}; got none")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds that are on, in the order in which they are planted."""
        return tuple(kind for kind in KINDS if getattr(self, kind) is not None)

    def identity(self) -> dict[str, Any]:
        """The plan as plain values, without paths and threads of the second dataset.

        These change no result; its content is part of the planted dataset's digest.
        """
        plain = dataclasses.asdict(self)
        if self.ood_far is not None:
            for place in ("root", "download", "cache", "decode_threads"):
                del plain["ood_far"]["dataset"][place]
        return plain


KINDS = tuple(f.name for f in dataclasses.fields(Planting) if f.name != "overlap")


def _check_seed(seed: int | None) -> None:
    if seed is not None and seed < 0:
        raise ValueError(f"seed: expected 0 or more; got {seed}")


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: expected a positive number; got {value}")
