"""What to plant: kinds of known hardness, as an experiment file says them under ``plant:``."""

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
        rate: Share of the samples that could be hit; their number is rounded down.
        seed: Draws rows and values; the dataset's ``data_seed``, if left out.

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
    """Labels that are mistaken as people mistake them.

    Args:
        classes: Class to the class that it is taken for, by name or number; those of Patrini et
            al. (2017) for ``cifar10`` and ``mnist``, if left out. The rate is that of these
            classes' samples.
        concentration: Instead, every class has a distribution over the other classes, drawn from
            a symmetric Dirichlet distribution; low values single out one class.
    """

    classes: dict[str, str | int] | None = None
    concentration: float | None = None

    def __post_init__(self) -> None:
        # A dataclass with slots is another class than the one that super() would look for.
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
    """Labels by people, all trained on; those that differ from the dataset's are the planted ones.

    Args:
        column: A parquet source's column of labels, such as CIFAR-10N's ``worse_label``.
    """

    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanLabels:
    """Labels by people as graded truth alone: how many of them differ from the dataset's.

    Args:
        columns: A parquet source's columns of labels, such as CIFAR-10N's ``random_label1``.
    """

    columns: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.columns or len({*self.columns}) < len(self.columns):
            raise ValueError(f"columns: expected different columns; got {[*self.columns]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanVotes:
    """Votes by people as graded truth alone: their entropy, and the share against the label.

    Args:
        column: A parquet source's column with one count a class in each row, such as CIFAR-10H's
            ``human_counts``.
    """

    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBlur(Drawn):
    """Gaussian blur of ``sigma`` pixels."""

    sigma: float = 1.0

    def __post_init__(self) -> None:
        Drawn.__post_init__(self)
        _check_positive("sigma", self.sigma)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageGaussian(Drawn):
    """Gaussian noise of ``sigma`` intensities, of 255."""

    sigma: float = 25.0

    def __post_init__(self) -> None:
        Drawn.__post_init__(self)
        _check_positive("sigma", self.sigma)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMix(Drawn):
    """Convex mix with an image of another class, which weighs ``share``."""

    share: float = 0.5

    def __post_init__(self) -> None:
        Drawn.__post_init__(self)
        if not 0 < self.share <= 0.5:  # noqa: PLR2004 - more, and the label would be the other one
            raise ValueError(f"share: expected a share above 0, up to 0.5; got {self.share}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OodNear(Drawn):
    """Images under a shift that keeps what they show: their negatives, or quarter turns."""

    shift: Literal["invert", "rotate"] = "invert"


@dataclass(frozen=True, slots=True, kw_only=True)
class OodFar(Drawn):
    """Images of another dataset under the labels of those that they replace.

    Args:
        dataset: As under ``dataset:``; of its training samples each is used once at most.
    """

    dataset: DatasetOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Atypical(Drawn):
    """Genuine images badly framed, each by one of three, all with the same interpolation.

    Args:
        zoom: Content becomes so many times smaller; 1 for no zoom.
        shift: Content moves by this share of the side, up, down, left or right; 0 for no shift.
        crop: Only a window of this share of the side is left, anywhere; 1 for no crop.
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
    """Images replaced by that of another sample of the same class, which no second one copies.

    Args:
        sigma: Gaussian noise on the copy, in intensities; 0 for exact duplicates.
    """

    sigma: float = 0.0

    def __post_init__(self) -> None:
        Drawn.__post_init__(self)
        if not 0 <= self.sigma < math.inf:
            raise ValueError(f"sigma: expected 0 or more; got {self.sigma}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RareSubgroup:
    """Superclasses to learn, whose subgroups get rarer: ``factor ** g`` of subgroup ``g`` stays.

    Args:
        groups: Superclass to its classes, by name or number; CIFAR-100's own, and animals and
            vehicles for ``cifar10``, if left out.
        factor: From one subgroup of a superclass to the next.
        seed: Draws the order of subgroups and the rows that stay; ``data_seed``, if left out.
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
        imbalance: What the first class keeps as a multiple of what the last keeps.
        seed: Draws the order of classes and the rows that stay; ``data_seed``, if left out.
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
        overlap: Let one row have its image and its label overwritten, by two kinds; if not, drawn
            kinds share no row. Rarity overwrites nothing and meets every kind.

    Raises:
        ValueError: If both ways to make rows rare are asked for, or nothing is.

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
        """Those that are on, in the order in which they are planted."""
        return tuple(kind for kind in KINDS if getattr(self, kind) is not None)

    def identity(self) -> dict[str, Any]:
        """As plain values, less the places and threads of the second dataset: they change nothing.

        Its content shows in the digest of the planted dataset.
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
