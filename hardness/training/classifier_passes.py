"""Scoring passes over a classifier: GraNd, ODIN, dropout, and the variance of gradients."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor
from torch.func import functional_call

from hardness.models.networks import Network
from hardness.seeding import Streams
from hardness.signals import ensembles as ensemble_signals
from hardness.signals import gradients as gradient_signals
from hardness.training.passes import CHECKPOINTS, DROPOUT_DRAWS, OF_CLASSIFIERS, evenly
from hardness.training.pixels import Pixels

# Most numbers in the input gradients that are held at once: 64 MiB in float32.
_GRADIENTS = 1 << 24
# Kept in float64: at ODIN's temperature, the first digits of all scores are equal.
_FLOAT64 = ("odin", "odin.unperturbed")
Weights = Mapping[int, Mapping[str, Tensor]]
_BlockScores = Callable[[Network, Pixels, Tensor, Tensor], dict[str, Tensor]]


def checkpoint_epochs(epochs: int) -> tuple[int, ...]:
    """Epochs whose weights must be kept for VoG's pass."""
    return evenly(epochs, CHECKPOINTS)


def check_kept(kept: Weights, epochs: Iterable[int]) -> None:
    """Refuse missing weights that VoG's pass needs; the pass itself would not notice.

    Raises:
        ValueError: If the weights of an epoch are missing.
    """
    missing = [str(epoch) for epoch in epochs if epoch not in kept]
    if missing:
        raise ValueError(
            f"vog: expected a checkpoint that keeps the weights of epochs {', '.join(missing)}; "
            "got one of a training without that pass"
        )


def classifier_signals(
    names: Iterable[str],
    network: Network,
    pixels: Pixels,
    labels: Int64[Tensor, " samples"],
    *,
    rows: Int64[Tensor, " rows"] | None = None,
    streams: Streams,
    epoch: int,
    kept: Weights | None = None,
) -> dict[str, Shaped[Tensor, " rows"]]:
    """Run scoring passes over clean images.

    Args:
        names: Names of the passes, keys of ``OF_CLASSIFIERS``.
        network: Network in eval mode; the mode is not changed.
        pixels: Images of all samples.
        labels: Labels of all samples, as used in training.
        rows: Samples to score; all if left out.
        streams: Random streams of the run; the pass for dropout has a stream of its own.
        epoch: Epoch that has just ended.
        kept: Weights of the network at ``checkpoint_epochs``; needed for ``vog``.

    Returns:
        Signals of the passes by name, one value per row.
    """
    given = labels if rows is None else labels[rows]
    found: dict[str, Tensor] = {}
    for name in names:
        of_block = partial(_vog, kept=kept or {}) if name == "vog" else _OF_BLOCK[name]
        apart = dataclasses.replace(streams, salt=f"{streams.salt}|{name}")
        torch.manual_seed(apart.integer("dropout", epoch))
        parts = [
            of_block(network, pixels, unit, some)
            for unit, some in zip(pixels.blocks(rows), given.split(pixels.eval_batch), strict=True)
        ]
        found |= {k: torch.cat([part[k] for part in parts]) for k in OF_CLASSIFIERS[name].signals}
    return {k: v if k in _FLOAT64 else v.float() for k, v in found.items()}


def _grand(network: Network, pixels: Pixels, unit: Tensor, labels: Tensor) -> dict[str, Tensor]:
    return {"grand": gradient_signals.grand_from_model(network, pixels.normalize(unit), labels)}


def _odin(network: Network, pixels: Pixels, unit: Tensor, _labels: Tensor) -> dict[str, Tensor]:
    def forward(images: Tensor) -> Tensor:
        return network(pixels.normalize(images))

    return {
        "odin": gradient_signals.odin_from_model(forward, unit),
        "odin.unperturbed": gradient_signals.odin_from_model(forward, unit, epsilon=0.0),
    }


def _mc_dropout(
    network: Network, pixels: Pixels, unit: Tensor, _labels: Tensor
) -> dict[str, Tensor]:
    if not gradient_signals.drops_units(network):
        nothing = torch.full((len(unit),), torch.nan, dtype=torch.float64, device=unit.device)
        return dict.fromkeys(OF_CLASSIFIERS["mc_dropout"].signals, nothing)
    log_probs = gradient_signals.dropout_log_probs(network, pixels.normalize(unit), DROPOUT_DRAWS)
    return {
        "mc_dropout_entropy": ensemble_signals.mixture_entropy(log_probs),
        "mc_dropout_bald": ensemble_signals.mutual_information(log_probs),
    }


def _vog(
    network: Network, pixels: Pixels, unit: Tensor, labels: Tensor, *, kept: Weights
) -> dict[str, Tensor]:
    a_sample = max(1, len(kept)) * unit[0, 0].numel()
    step = max(1, _GRADIENTS // a_sample)
    parts = [
        _vog_of(network, kept, pixels.normalize(some), given)
        for some, given in zip(unit.split(step), labels.split(step), strict=True)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _vog_of(network: Network, kept: Weights, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    logit: list[Tensor] = []
    probability: list[Tensor] = []
    for epoch in sorted(kept):
        weights = {k: v.to(images.device) for k, v in kept[epoch].items()}

        def forward(x: Tensor, weights: Mapping[str, Tensor] = weights) -> Tensor:
            return functional_call(network, dict(weights), (x,))

        for found, of in (
            (logit, gradient_signals.label_logit),
            (probability, gradient_signals.label_probability),
        ):
            found.append(gradient_signals.input_gradient(forward, images, labels, of=of))
    gradients, third = torch.stack(logit), len(logit) // 3
    return {
        "vog": gradient_signals.vog_from_gradients(gradients),
        "vog.early": gradient_signals.vog_from_gradients(gradients[:third]),
        "vog.late": gradient_signals.vog_from_gradients(gradients[len(gradients) - third :]),
        "vog_prob": gradient_signals.vog_from_gradients(torch.stack(probability)),
    }


_OF_BLOCK: dict[str, _BlockScores] = {"grand": _grand, "odin": _odin, "mc_dropout": _mc_dropout}
