"""The work that is timed: a small network on synthetic images, as configuration and as places."""

import numpy as np
import pandas as pd
import torch

from hardness.data.datasets import Dataset, content_digest
from hardness.data.source import Samples
from hardness.models.options import ModelOptions
from hardness.seeding import Streams
from hardness.training import REGIMENS
from hardness.training.options import Supervised, TrainOptions
from sweep.experiment.runs import Configuration, Pack

SAMPLES, VALIDATION, CLASSES, PIXELS = 5_000, 1_000, 10, 32
EPOCHS = 3
MODEL = ModelOptions(name="small_cnn")
SIZE = f"small_cnn, {SAMPLES:,} images of 3x{PIXELS}x{PIXELS}, one thread"


def images(samples: int = SAMPLES) -> Dataset:
    """Classes as blurred random patterns under noise: learnable, and no two pixels alike."""
    generator = np.random.default_rng(0)
    coarse = generator.normal(size=(CLASSES, 3, 4, 4))
    patterns = coarse.repeat(PIXELS // 4, axis=2).repeat(PIXELS // 4, axis=3)

    def part(n, first_id):
        labels = generator.integers(CLASSES, size=n)
        noise = generator.normal(size=(n, 3, PIXELS, PIXELS), scale=2)
        pixels = np.clip(128 + 32 * (patterns[labels] + noise), 0, 255).astype(np.uint8)
        return Samples(
            images=torch.from_numpy(pixels),
            labels=torch.from_numpy(labels),
            sample_ids=torch.arange(first_id, first_id + n),
        )

    train, validation = part(samples, 0), part(VALIDATION, samples)
    classes = tuple(map(str, range(CLASSES)))
    return Dataset(
        name="synthetic",
        classes=classes,
        train=train,
        validation=validation,
        columns=pd.DataFrame(index=range(samples)),
        digest=content_digest(classes, train, validation),
    )


def supervised(epochs=EPOCHS):
    """Options of the timed training."""
    return Supervised(train=TrainOptions(max_epochs=epochs, batch_size=128, lr=0.05))


def configuration(dataset, epochs=EPOCHS):
    """The same as a sweep would name it."""
    train = {"max_epochs": epochs, "batch_size": 128, "lr": 0.05}
    return Configuration(
        regimen="supervised",
        numerics_version=REGIMENS["supervised"].numerics_version,
        dataset={"name": dataset.name, "digest": dataset.digest},
        model={"name": MODEL.name},
        options={"train": train},
    )


def streams(seed, salt=""):
    """Random streams of one run."""
    return Streams(seed=seed, salt=salt)


def packs(made, configured, seeds):
    """One pack a seed, under one parent."""
    parent = made.save_configuration(configured, {}, 0)
    return [Pack(configuration=configured, seeds=(seed,), parent_run=parent) for seed in seeds]
