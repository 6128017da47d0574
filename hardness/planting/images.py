"""Kinds that change images: blurred, noisy, mixed, foreign, badly framed and copied ones."""

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from hardness.planting import distortion
from hardness.planting.ground import IMAGE, LABEL, Draws, Ground, Rows, drawn, lowest, share_of
from hardness.planting.options import (
    Atypical,
    Duplicate,
    ImageBlur,
    ImageGaussian,
    ImageMix,
    OodFar,
    OodNear,
)


def noise_image_blur(ground: Ground, kind: str, options: ImageBlur) -> None:
    """Blur images."""
    _, rows = drawn(ground, kind, options, IMAGE)
    _repaint(ground, kind, rows, distortion.blurred(ground.images(rows), options.sigma))


def noise_image_gaussian(ground: Ground, kind: str, options: ImageGaussian) -> None:
    """Add Gaussian noise to images."""
    draws, rows = drawn(ground, kind, options, IMAGE)
    images = ground.images(rows)
    normal = draws.normal("noise", rows, images.shape[1:])
    _repaint(ground, kind, rows, distortion.noisy(images, options.sigma, normal))


def noise_image_mix(ground: Ground, kind: str, options: ImageMix) -> None:
    """Mix images with images of other classes."""
    draws, rows = drawn(ground, kind, options, IMAGE)
    partners = _of_another_class(ground.true_labels, draws)[rows]
    mix = distortion.mixed(ground.images(rows), ground.images(partners), options.share)
    _repaint(ground, kind, rows, mix)


def _of_another_class(labels: Int64[np.ndarray, " samples"], draws: Draws) -> Rows:
    """For each row, a random row of another class."""
    counts = np.bincount(labels)
    others = len(labels) - counts
    if not others[labels].all():
        raise ValueError("expected samples of at least 2 classes; got one class")
    first = np.cumsum(counts) - counts
    at = draws.below("partner", others[labels])
    # In the order of classes, the row's own class is skipped.
    at += np.where(at >= first[labels], counts[labels], 0)
    return np.argsort(labels, kind="stable")[at]


def ood_near(ground: Ground, kind: str, options: OodNear) -> None:
    """Invert or rotate images."""
    shift = {"invert": distortion.negative, "rotate": distortion.turned}[options.shift]
    _, rows = drawn(ground, kind, options, IMAGE)
    _repaint(ground, kind, rows, shift(ground.images(rows)))


def ood_far(ground: Ground, kind: str, options: OodFar) -> None:
    """Replace images by images of another dataset."""
    draws, rows = drawn(ground, kind, options, IMAGE)
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
    # In the order of drawing, so that these rows get the same images at a larger rate.
    rows = rows[np.argsort(draws.of_rows("choice")[rows], kind="stable")]
    images = distortion.fitted(far.read(torch.from_numpy(sources)), *shape)
    _repaint(ground, kind, rows, images)


def atypical(ground: Ground, kind: str, options: Atypical) -> None:
    """Zoom out of, shift or crop images."""
    draws, rows = drawn(ground, kind, options, IMAGE)
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


def duplicate(ground: Ground, kind: str, options: Duplicate) -> None:
    """Replace images by copies of others of the same class."""
    draws = ground.draws(kind, options.seed)
    count = share_of(options.rate, len(ground))
    # The original must stay unchanged, so at most half of a class's free rows become copies.
    free = np.logical_and(*ground.free.values())
    labels = ground.true_labels
    halves = np.bincount(labels[free], minlength=len(ground.classes)) // 2
    able = ground.mask(lowest(labels, free, halves, draws.of_rows("choice")))
    rows = ground.choose(draws, count, able, (IMAGE, LABEL))
    copies = np.bincount(labels[rows], minlength=len(ground.classes))
    priorities = draws.of_rows("source")
    sources = lowest(labels, free & ~ground.mask(rows), copies, priorities)
    rows, sources = (at[np.argsort(labels[at], kind="stable")] for at in (rows, sources))
    images = ground.images(sources)
    if options.sigma:
        normal = draws.normal("noise", rows, images.shape[1:])
        images = distortion.noisy(images, options.sigma, normal)
    ground.patches.append((rows, images))
    for both in (rows, sources):
        ground.reserve(both, (IMAGE, LABEL))
    # Only the sample id distinguishes a copy from its original, so the truth marks both.
    ground.mark(kind, rows, ground.mask(np.concatenate([rows, sources])))


def _repaint(
    ground: Ground, kind: str, rows: Rows, images: UInt8[Tensor, "rows channels height width"]
) -> None:
    ground.patches.append((rows, images))
    ground.reserve(rows, (IMAGE,))
    ground.mark(kind, rows)
