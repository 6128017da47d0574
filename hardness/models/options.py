"""Options of networks and of augmentation."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

# Networks of our own, in addition to torchvision's.
MODELS = ("mlp", "small_cnn", "resnet18_cifar")
_WIDEST = 65_536
# Operations of an augmentation, in order, and the uniform numbers that each needs per sample.
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
        name: ``mlp``, ``small_cnn``, ``resnet18_cifar`` or the name of a torchvision classifier.
        width: Number of units in the hidden layers (``mlp``, default 128) or of channels in the
            first convolution (``small_cnn``, default 16). Not allowed for other networks.
        dropout: Share of units dropped before the head of ``mlp`` and ``small_cnn``.
        pretrained: Weights of torchvision to start from: ``true`` for the best, or a name such as
            ``IMAGENET1K_V1``; none if left out. Missing files are downloaded once into the folder
            of torch.hub (``$TORCH_HOME/hub/checkpoints``). The head is drawn at random if the
            number of classes differs. Images are normalised by the mean and standard deviation
            of the dataset, not of ImageNet.

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
        """Path in torch.hub's folder, which may not exist yet; None if not pretrained."""
        if not self.pretrained:
            return None
        return Path(_torchvision().weights_file(self.name, self.pretrained))

    def named(self) -> "ModelOptions":
        """The same options with the name of the weights, since torchvision's best may change."""
        if not self.pretrained:
            return replace(self, pretrained=None)
        return replace(self, pretrained=_torchvision().weights_of(self.name, self.pretrained).name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Operations and their strengths; all are off by default. They apply in the order below.

    Args:
        pad: Largest random shift in whole pixels, along each axis. Edges are filled by reflection,
            so it equals padding by reflection and a random crop.
        crop_scale: Smallest and largest share of the image's area in a random crop, which is then
            resized to the image (bilinear). Its aspect ratio, relative to the image's, lies
            between 3/4 and 4/3 as far as the crop fits, and is log-uniform to within 1 %.
        flip: Probability of a horizontal flip.
        brightness: Strength of brightness changes: intensities are multiplied by a factor from
            ``1 - brightness`` (not below 0) to ``1 + brightness``.
        contrast: Strength of contrast changes: the same for the distance to the mean grey.
        saturation: Strength of saturation changes: the same for the distance to each pixel's grey.
            Skipped unless images are RGB.
        grayscale: Probability of replacing colours by grey. Skipped unless images are RGB.

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
        """Names of the random numbers per sample; operations that are off need none."""
        return tuple(c for name, group in _COLUMNS.items() if getattr(self, name) for c in group)


def _torchvision() -> ModuleType:
    """Our list of torchvision's names; loaded only for a network that is not ours."""
    from hardness.models import torchvision_names  # noqa: PLC0415

    return torchvision_names
