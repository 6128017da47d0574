"""A folder in ImageNet's layout: JPEGs of many sizes, some grey, one CMYK, one a PNG by content."""

import numpy as np
from PIL import Image

CLASSES, TRAIN, VAL = 12, 30, 5


def wnid(label):
    return f"n{10_000_000 + 7 * label}"


def write_imagenet(root, *, classes=CLASSES, train=TRAIN, val=VAL, seed=0):
    """Write ``train`` and ``val``; returns the root."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(40, 216, (classes, 3))
    for part, count in (("train", train), ("val", val)):
        for label in range(classes):
            folder = root / part / wnid(label)
            folder.mkdir(parents=True)
            for i in range(count):
                picture = _picture(rng, colours[label])
                kind = "JPEG"
                if i % 7 == 3:
                    picture = picture.convert("L")
                elif label == 1 and i == 2:
                    picture = picture.convert("CMYK")
                elif label == 2 and i == 2:
                    kind = "PNG"
                picture.save(folder / f"{wnid(label)}_{i}.JPEG", kind, quality=90)
    return root


def _picture(rng, colour):
    """Smooth structure and noise around the class's colour, of a random size."""
    width, height = (int(side) for side in rng.integers(36, 90, 2))
    coarse = rng.integers(-40, 40, (5, 5, 3))
    smooth = Image.fromarray(np.clip(colour + coarse, 0, 255).astype(np.uint8))
    array = np.asarray(smooth.resize((width, height), Image.Resampling.BICUBIC), np.int64)
    noisy = array + rng.integers(-12, 12, array.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
