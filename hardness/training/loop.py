"""The loop over epochs and the epoch of steps: one of each, for every regimen."""

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
    """What a run of a regimen is given, and what every regimen builds from it."""

    dataset: Dataset
    model: ModelOptions
    options: Options
    streams: Streams
    device: torch.device
    recording: Recording

    def network(self) -> Network:
        """A fresh classifier on the device, with the same weights at each call."""
        return self._network().to(self.device)

    def extended(self, extend: Callable[[Network], Module]) -> Module:
        """A fresh network on the device, whose further layers get weights of their own stream."""
        network = self._network()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.streams.integer("weights", epoch=1))
            return extend(network).to(self.device)

    def pixels(self) -> tuple[Pixels, Pixels]:
        """Images of the training and of the validation samples, normalised alike."""
        pixels = Pixels(self.dataset.train.images, self.device)
        return pixels, Pixels(self.dataset.validation.images, self.device, like=pixels)

    def labels(self) -> tuple[Int64[Tensor, " samples"], Int64[Tensor, " held"]]:
        """Labels of the training and of the validation samples, on the device."""
        train, validation = self.dataset.train, self.dataset.validation
        return train.labels.to(self.device), validation.labels.to(self.device)

    def passes(self, passes: Mapping[str, Pass]) -> dict[str, tuple[int, ...]]:
        """The epochs of each scoring pass that is to be made; no pass if no signal is recorded."""
        if not self.recording.signals:
            return {}
        return schedule(passes, self.recording, self.options.epochs)

    def _network(self) -> Network:
        shape, n_classes = self.dataset.train.images.shape[1:], len(self.dataset.classes)
        return build(self.model, image_shape=shape, n_classes=n_classes, streams=self.streams)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """An epoch of steps.

    Args:
        epoch: 0-based number of the epoch.
        last: Whether the run ends with this epoch.
        loss: Mean loss of the presentations.
        lr: Learning rate of the first step.
        rows: The samples, in the order in which they were presented, network after network.
        kept: What the loss kept of each batch, in the same order.
    """

    epoch: int
    last: bool
    loss: float
    lr: float
    rows: Int64[Tensor, " presented"]
    kept: Sequence[Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluated:
    """What an evaluation leaves for ``EpochRecord``, and for its checkpoint as in ``capture``."""

    signals: Mapping[str, Shaped[np.ndarray, " samples"]] = field(default_factory=dict)
    summary: Mapping[str, float] = field(default_factory=dict)
    snapshots: Mapping[str, Shaped[np.ndarray, "samples ..."]] = field(default_factory=dict)
    carried: Mapping[str, Tensor] = field(default_factory=dict)
    kept: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)


@runtime_checkable
class Learner(Protocol):
    """What is a regimen's own: networks that train in step, their loss, and what is recorded."""

    @property
    def networks(self) -> Sequence[nn.Module]:
        """The networks, which start alike and drop the same units."""

    @property
    def pixels(self) -> Pixels:
        """Images of all training samples."""

    def start(self, resume: Checkpoint) -> Evaluated:
        """Evaluate the networks before the first step; the checkpoint of a new run is empty."""

    def orders(self, order: Int64[Tensor, " samples"], epoch: int) -> Sequence[Int64[Tensor, " _"]]:
        """Rows that each network trains on, taken from the epoch's order of all samples."""

    def loss(self, outputs: Tensor, images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean loss of a batch, and what to keep of the batch until the epoch is evaluated.

        Args:
            outputs: What the network makes of the images, float32.
            images: The batch's augmented images in 0..1; with several views, view after view.
            rows: The batch's samples.
        """

    def evaluate(self, trained: Trained) -> Evaluated:
        """Evaluate the networks after an epoch.

        Raises:
            Diverged: If what the networks make of the samples left the finite numbers.
        """


def train(
    learner_of: Callable[[Setup[Options]], Learner],
    setup: Setup[Options],
    resume: Checkpoint | None,
    views: int = 1,
) -> Iterator[EpochRecord]:
    """Train as ``Regimen.train`` says, with so many augmented views of each sample in a batch.

    Epochs beyond ``max_epochs`` are a second stage, with a fresh optimizer and schedule.
    """
    options, chosen = setup.options, setup.options.train
    prepare(chosen, setup.device)
    learner = learner_of(setup)
    networks = learner.networks
    # One optimizer for all: of a network that does not train it finds no gradients.
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
    """Train each network on its rows, in the order and under the augmentation of this epoch."""
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
    """What one network was shown in one epoch.

    ``loss`` is the sum over the samples of their batch's mean loss; ``lr`` is the learning rate of
    the first step; ``kept`` is what the loss kept of each batch.
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
    """One epoch of one network's steps; the caller has seeded the dropout.

    Args:
        forward: A network in training mode, or what ``torch.compile`` made of it.
        optim: Optimizer over its parameters; those of other networks get no gradient and stay.
        learner: Images of all samples, and the loss.
        order: Rows to present, in this order.
        draws: Random numbers of the augmentation, for each view one row a sample.
        options: Augmentation, batch size, learning rate, precision.
        epoch: 0-based, counted from where the learning rate's schedule starts.
        epochs: Length of that schedule.
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
    """The same values as arrays in host memory."""
    return {name: values.cpu().numpy() for name, values in tensors.items()}
