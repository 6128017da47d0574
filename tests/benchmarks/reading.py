"""Reading images from disk: decoded by one and two threads, and a training against one in memory.

The images are generated, of ImageNet's usual size in pixels (500 x 375) and about its usual number
of bytes (110 kB), so that decoding and scaling cost what they cost there.
"""

import dataclasses
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hardness.data.datasets import load
from hardness.data.options import DatasetOptions
from hardness.models.options import ModelOptions
from hardness.training.options import Supervised, TrainOptions
from hardness.training.supervised import supervised
from tests.benchmarks import setting
from tests.benchmarks.figures import Figure, ratio

CLASSES, TRAIN, VAL = 4, 50, 5
WIDTH, HEIGHT, QUALITY = 500, 375, 92
# Work that hides the decoding of the next batch, and next to no work.
MODELS = ("small_cnn", "mlp")


def measure(pairs: int) -> list[Figure]:
    """Images a second, and seconds of an epoch with images on disk against images in memory."""
    with tempfile.TemporaryDirectory(prefix="benchmark-reading-") as folder:
        root = Path(folder) / "data"
        kilobytes = _write(root)
        files = load(_options(root)).train
        figures = [
            Figure(
                what=f"images/s decoded by {threads} thread{'s' * (threads > 1)}",
                asked="",
                found=f"{_rate(files.images, threads, pairs):.0f}",
                note=f"{WIDTH}x{HEIGHT}, {kilobytes:.0f} kB, to 224x224; best of {pairs}",
            )
            for threads in (1, 2)
        ]
        memory = load(_options(root, name="imagefolder"))
        places = {
            "on disk": load(_options(root)),
            "cached": load(_options(root, cache=f"{folder}/cache")),
        }
        figures += [
            ratio(
                f"epoch of {model}, {CLASSES * TRAIN} images at 224x224, {name} / in memory",
                "",
                partial(_epoch, places[name], model),
                partial(_epoch, memory, model),
                pairs,
            )
            for model in MODELS
            for name in places
        ]
    return figures


def _options(root, name="imagenet", **more):
    return DatasetOptions(name=name, root=str(root), image_size=224, **more)


def _write(root):
    """The folder; returns the mean size of its files in kilobytes."""
    rng, sizes = np.random.default_rng(0), []
    for part, count in (("train", TRAIN), ("val", VAL)):
        for label in range(CLASSES):
            place = root / part / f"n{label:08d}"
            place.mkdir(parents=True)
            for i in range(count):
                coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
                smooth = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
                noise = rng.normal(0, 14, (HEIGHT, WIDTH, 3))
                pixels = np.clip(np.asarray(smooth) + noise, 0, 255).astype(np.uint8)
                path = place / f"{i}.JPEG"
                Image.fromarray(pixels).save(path, "JPEG", quality=QUALITY)
                sizes.append(path.stat().st_size)
    return sum(sizes) / len(sizes) / 1e3


def _rate(images, threads, times):
    files, best = dataclasses.replace(images, threads=threads), 0.0
    for _ in range(times):
        started = time.perf_counter()
        for _ in files.batches(torch.arange(len(files)).split(64)):
            pass
        best = max(best, len(files) / (time.perf_counter() - started))
    return best


def _epoch(dataset, model, pair):
    options = Supervised(train=TrainOptions(max_epochs=1, batch_size=64, lr=0.05))
    for _ in supervised(dataset, ModelOptions(name=model), options, setting.streams(pair)):
        pass
