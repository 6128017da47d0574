"""The loop over epochs, and the loop over steps in an epoch, which all regimens share."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor, nn

from hardness.data.datasets import Dataset
from hardness.dynamics.checkpoint import Checkpoint, capture
from hardness.dynamics.record import INIT, EpochRecord, Recording
from hardness.models.augmentation import augment, draw
from hardness.models.networks import Network, build
from hardness.models.options import ModelOptions
from hardness.seeding import Streams
from hardness.training.optimization import (
    autocast,
    batches,
    check_finite,
    learning_rate,
    optimizer,
    prepare,
)
from hardness.training.options import Autoencoder, Contrastive, CrossFit, SecondSplit, Supervised
from hardness.training.passes import Pass, schedule
from hardness.training.pixels import Pixels

Options = TypeVar("Options", bound=Supervised | SecondSplit | CrossFit | Contrastive | Autoencoder)
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True, slots=True, eq=False)
class Setup(Generic[Options]):
    """Inputs of a run, and what every regimen builds from them."""

    dataset: Dataset
    model: ModelOptions
    options: Options
    streams: Streams
    device: torch.device
    recording: Recording

    def network(self) -> Network:
        """A new classifier on the device, with the same initial weights at each call."""
        return self._network().to(self.device)

    def extended(self, extend: Callable[[Network], Module]) -> Module:
        """A new network on the device; layers that ``extend`` adds use another random stream."""
        network = self._network()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.streams.integer("weights", epoch=1))
            return extend(network).to(self.device)

    def pixels(self) -> tuple[Pixels, Pixels]:
        """Images of the training and the validation samples, normalised by the same numbers."""
        pixels = Pixels(self.dataset.train.images, self.device)
        return pixels, Pixels(self.dataset.validation.images, self.device, like=pixels)

    def labels(self) -> tuple[Int64[Tensor, " samples"], Int64[Tensor, " held"]]:
        """Labels of the training and of the validation samples, on the device."""
        train, validation = self.dataset.train, self.dataset.validation
        return train.labels.to(self.device), validation.labels.to(self.device)

    def passes(self, passes: Mapping[str, Pass]) -> dict[str, tuple[int, ...]]:
        """Epochs of each requested scoring pass; no pass if no signals are recorded."""
        if not self.recording.signals:
            return {}
        return schedule(passes, self.recording, self.options.epochs)

    def _network(self) -> Network:
        shape, n_classes = self.dataset.train.images.shape[1:], len(self.dataset.classes)
        return build(self.model, image_shape=shape, n_classes=n_classes, streams=self.streams)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """Results of the steps of one epoch.

    Args:
        epoch: Number of the epoch, from 0.
        last: Whether the run ends with this epoch.
        loss: Mean loss over all presented samples.
        lr: Learning rate of the first step.
        rows: Samples in the order in which they were presented, network after network.
        kept: Second result of ``Learner.loss`` for each batch, in the same order.
    """

    epoch: int
    last: bool
    loss: float
    lr: float
    rows: Int64[Tensor, " presented"]
    kept: Sequence[Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluated:
    """Results of an evaluation: fields of ``EpochRecord``, and arguments of ``capture``."""

    signals: Mapping[str, Shaped[np.ndarray, " samples"]] = field(default_factory=dict)
    summary: Mapping[str, float] = field(default_factory=dict)
    snapshots: Mapping[str, Shaped[np.ndarray, "samples ..."]] = field(default_factory=dict)
    carried: Mapping[str, Tensor] = field(default_factory=dict)
    kept: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)


@runtime_checkable
class Learner(Protocol):
    """What differs between regimens: networks, loss, and recorded results."""

    @property
    def networks(self) -> Sequence[nn.Module]:
        """Networks that start from the same weights and drop the same units."""

    @property
    def pixels(self) -> Pixels:
        """Images of all training samples."""

    def start(self, resume: Checkpoint) -> Evaluated:
        """Evaluate the networks before the first step; the checkpoint of a new run is empty."""

    def orders(self, order: Int64[Tensor, " samples"], epoch: int) -> Sequence[Int64[Tensor, " _"]]:
        """Rows that each network trains on, in the order that the epoch has for all samples."""

    def loss(self, outputs: Tensor, images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean loss of a batch, and what to keep of the batch until the epoch is evaluated.

        Args:
            outputs: Outputs of the network for the images, float32.
            images: Augmented images of the batch in 0..1; with several views, view after view.
            rows: Samples of the batch.
        """

    def evaluate(self, trained: Trained) -> Evaluated:
        """Evaluate the networks after an epoch.

        Raises:
            Diverged: If outputs of a network are not finite.
        """


def train(
    learner_of: Callable[[Setup[Options]], Learner],
    setup: Setup[Options],
    resume: Checkpoint | None,
    views: int = 1,
) -> Iterator[EpochRecord]:
    """Train as ``Regimen.train`` describes, with ``views`` augmented views of each sample.

    Epochs after ``max_epochs`` are a second stage, with a new optimizer and schedule.
    """
    options, chosen = setup.options, setup.options.train
    prepare(chosen, setup.device)
    learner = learner_of(setup)
    networks = learner.networks
    # One optimizer for all networks; it skips a network that has no gradients.
    module = networks[0] if len(networks) == 1 else nn.ModuleList(networks)
    forwards = [torch.compile(one) if chosen.compile else one for one in networks]
    optim = optimizer(module, chosen)
    if resume is not None:
        resume.restore(module, optim)
    state = resume or Checkpoint(epoch=INIT, tensors={})
    before = learner.start(state)
    if resume is None:
        yield _record(INIT, before, {}, module, optim)
    for epoch in range(state.epoch + 1, options.epochs):
        if epoch == chosen.max_epochs:
            optim = optimizer(module, chosen)
        started = time.perf_counter()
        module.train()
        trained = _epoch(setup, learner, forwards, optim, epoch, views)
        ended = time.perf_counter()
        check_finite(trained.loss, "the training loss", epoch)
        evaluated = learner.evaluate(trained)
        seconds = {"train_seconds": ended - started, "eval_seconds": time.perf_counter() - ended}
        yield _record(epoch, evaluated, seconds, module, optim)


def _record(
    epoch: int,
    evaluated: Evaluated,
    seconds: Mapping[str, float],
    module: nn.Module,
    optim: torch.optim.Optimizer,
) -> EpochRecord:
    carried, kept = evaluated.carried, evaluated.kept
    return EpochRecord(
        epoch=epoch,
        signals=evaluated.signals,
        summary={**evaluated.summary, **seconds},
        snapshots=evaluated.snapshots,
        checkpoint=partial(capture, epoch, module, optim, carried=carried, kept=kept),
    )


def _epoch(
    setup: Setup[Options],
    learner: Learner,
    forwards: Sequence[Callable[[Tensor], Tensor]],
    optim: torch.optim.Optimizer,
    epoch: int,
    views: int,
) -> Trained:
    """Train each network on its rows, with the order and augmentation of this epoch."""
    options, streams, n = setup.options, setup.streams, len(learner.pixels)
    first, second = options.train.max_epochs, options.epochs - options.train.max_epochs
    in_stage, length = (epoch, first) if epoch < first else (epoch - first, second)
    order = torch.randperm(n, generator=streams.generator("order", epoch))
    generator = streams.generator("augmentation", epoch)
    draws = [draw(options.augmentation, n, generator).to(setup.device) for _ in range(views)]
    orders = [rows.to(setup.device) for rows in learner.orders(order, epoch)]
    shown = []
    for forward, rows in zip(forwards, orders, strict=True):
        torch.manual_seed(streams.integer("dropout", epoch))
        shown.append(
            train_epoch(
                forward, optim, learner, rows, draws, options, epoch=in_stage, epochs=length
            )
        )
    presented = torch.cat(orders)
    return Trained(
        epoch=epoch,
        last=epoch == options.epochs - 1,
        loss=sum(one.loss.item() for one in shown) / len(presented),
        lr=shown[-1].lr,
        rows=presented,
        kept=[of_batch for one in shown for of_batch in one.kept],
    )


class Presentations(NamedTuple):
    """Results of one network's steps in one epoch.

    ``loss`` is the sum of mean batch losses, each times its batch size. ``lr`` is the learning rate
    of the first step. ``kept`` has the second result of ``Learner.loss`` for each batch.
    """

    loss: Float64[Tensor, ""]
    lr: float
    kept: list[Tensor]


def train_epoch(
    forward: Callable[[Tensor], Tensor],
    optim: torch.optim.Optimizer,
    learner: Learner,
    order: Int64[Tensor, " presented"],
    draws: Sequence[Float[Tensor, "samples parameters"]],
    options: Options,
    *,
    epoch: int,
    epochs: int,
) -> Presentations:
    """Train one network for one epoch; the caller has to seed the dropout.

    Args:
        forward: Network in training mode, compiled or not.
        optim: Optimizer of all networks; it changes only this one, since others have no gradients.
        learner: Source of the images and the loss.
        order: Rows to present, in this order.
        draws: Random numbers of the augmentation: for each view, one row per sample.
        options: Augmentation, batch size, learning rate, precision.
        epoch: Number of the epoch, from 0 at the start of the learning rate's schedule.
        epochs: Number of epochs of that schedule.
    """
    pixels, chosen = learner.pixels, options.train
    shown = batches(order, chosen.batch_size)
    steps, kept = len(shown), []
    total = torch.zeros((), dtype=torch.float64, device=pixels.device)
    for step, (rows, unit) in enumerate(pixels.units(shown), epoch * steps):
        for group in optim.param_groups:
            group["lr"] = learning_rate(step, epochs * steps, chosen)
        images = torch.cat([augment(options.augmentation, unit, drawn[rows]) for drawn in draws])
        with autocast(chosen, pixels.device):
            outputs = forward(pixels.normalize(images))
        loss, of_batch = learner.loss(outputs.float(), images, rows)
        optim.zero_grad(set_to_none=True)
        loss.backward()
        optim.step()
        total += loss.detach().double() * len(rows)
        if of_batch is not None:
            kept.append(of_batch)
    first_lr = learning_rate(epoch * steps, epochs * steps, chosen)
    return Presentations(loss=total, lr=first_lr, kept=kept)


def arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """The tensors as NumPy arrays."""
    return {name: values.cpu().numpy() for name, values in tensors.items()}
