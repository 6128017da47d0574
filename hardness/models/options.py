"""Options of networks and of augmentation."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

# The networks that are not torchvision's.
MODELS = ("mlp", "small_cnn", "resnet18_cifar")
_WIDEST = 65_536
# Operations of an augmentation, in order, and the uniform numbers that each takes of a sample.
_COLUMNS = {
    "pad": ("shift_y", "shift_x"),
    "crop_scale": ("area", "aspect", "top", "left"),
    "flip": ("flip",),
    "brightness": ("brightness",),
    "contrast": ("contrast",),
    "saturation": ("saturation",),
    "grayscale": ("grayscale",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """What an experiment file says under ``model:``.

    Args:
        name: ``mlp``, ``small_cnn``, ``resnet18_cifar`` or a torchvision classifier's name.
        width: Units of the hidden layers (``mlp``, default 128) or channels of the first
            convolution (``small_cnn``, default 16); the others have none.
        dropout: Share of units dropped before the head of ``mlp`` and ``small_cnn``.
        pretrained: Start from torchvision's weights: ``true`` for its best, or a name such as
            ``IMAGENET1K_V1``. They are looked for where torch.hub keeps its files
            (``$TORCH_HOME/hub/checkpoints``), and fetched once if absent. A head for another
            number of classes than theirs is drawn afresh. Images are normalised by the mean and
            spread of the dataset at hand, not by ImageNet's.

    Raises:
        ValueError: If the name is unknown or a number is out of range.
    """

    name: str = "small_cnn"
    width: int | None = None
    dropout: float = 0.1
    pretrained: bool | str | None = None

    def __post_init__(self) -> None:
        if self.name not in MODELS and self.name not in _torchvision().classifiers():
            raise ValueError(
                f"unknown model {self.name!r}; known: {', '.join(MODELS)} "
                "and torchvision's classifiers such as resnet50"
            )
        if self.width is not None and (self.width < 1 or self.name not in ("mlp", "small_cnn")):
            raise ValueError(
                f"width: expected at least 1, for mlp or small_cnn; got {self.width} "
                f"for {self.name}"
            )
        if self.width is not None and self.width > _WIDEST:
            raise ValueError(f"width: expected at most {_WIDEST}; got {self.width}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected a share in [0, 1); got {self.dropout}")
        if self.pretrained:
            _torchvision().weights_of(self.name, self.pretrained)

    @property
    def weights_file(self) -> Path | None:
        """Where torch.hub keeps the pretrained weights, there or not; None for a fresh network."""
        if not self.pretrained:
            return None
        return Path(_torchvision().weights_file(self.name, self.pretrained))

    def named(self) -> "ModelOptions":
        """The same with the name of the pretrained weights: the best may be others one day."""
        if not self.pretrained:
            return replace(self, pretrained=None)
        return replace(self, pretrained=_torchvision().weights_of(self.name, self.pretrained).name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Which operations, and how strong; all off by default. They apply in the order below.

    Args:
        pad: Shift by whole pixels, ``-pad`` to ``pad`` along each axis, edges filled by
            reflection; the same as padding by reflection and cropping at random.
        crop_scale: Smallest and largest share of the area of a random crop, resized to the
            whole image (bilinear). Its aspect, relative to the image's, lies between 3/4 and
            4/3, log-uniform to within 1 %, as far as a crop of that area fits.
        flip: Probability of a horizontal flip.
        brightness: Intensities are multiplied by a factor from ``1 - brightness`` (not below 0)
            to ``1 + brightness``.
        contrast: Likewise for the distance to the image's mean grey.
        saturation: Likewise for the distance to each pixel's grey; skipped unless RGB.
        grayscale: Probability of replacing colours by grey; skipped unless RGB.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> Augmentation(pad=1, flip=0.5).columns
        ('shift_y', 'shift_x', 'flip')
    """

    pad: int = 0
    crop_scale: tuple[float, float] | None = None
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    grayscale: float = 0.0

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise ValueError(f"pad: expected at least 0; got {self.pad}")
        for name in ("flip", "grayscale"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected 0 to 1; got {getattr(self, name)}")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected at least 0; got {getattr(self, name)}")
        if self.crop_scale is not None and not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(
                "crop_scale: expected two shares of the area, ascending, above 0 and up to 1; "
                f"got {self.crop_scale}"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the parameters, none for an operation that is off."""
        return tuple(c for name, group in _COLUMNS.items() if getattr(self, name) for c in group)


def _torchvision() -> ModuleType:
    """What torchvision offers; it loads only where a name is none of ours."""
    from hardness.models import torchvision_names  # noqa: PLC0415

    return torchvision_names
