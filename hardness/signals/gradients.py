"""Per-sample signals that take the model itself: gradients, perturbed inputs, dropout.

A function is named after the signal and what it computes it from, as in ``signals``.

Networks are called as they are given: the caller puts them into eval mode, where every sample
stands alone; batch statistics of a batch would leave no gradient that belongs to one sample.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import SupportsFloat

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy, log_softmax

from hardness.signals import logits as logit_signals

# Bytes of per-sample gradients that are held at a time.
GRADIENT_BYTES = 1 << 28
# Numbers that are copied to float64 at a time.
_AT_ONCE = 1 << 20


def grand_from_model(
    network: nn.Module,
    images: Float[Tensor, "samples channels height width"],
    labels: Int64[Tensor, " samples"],
    *,
    memory_bytes: int = GRADIENT_BYTES,
) -> Float64[Tensor, " samples"]:
    """GraNd: norm of the loss's gradient with respect to all trainable parameters, per sample.

    Gradients of so many samples as fit into the memory are held at a time, never all of them.

    Args:
        network: From images to logits, in eval mode.
        images: As the network takes them.
        labels: Those trained on.
        memory_bytes: Bound on the gradients held; a single sample's may exceed it.

    Returns:
        One norm per sample; 0 without trainable parameters.

    Raises:
        ValueError: If the network is in training mode.

    References:
        Paul et al., "Deep Learning on a Data Diet: Finding Important Examples Early in Training",
        NeurIPS 2021, definition 2.1.
    """
    _refuse_training(network)
    parameters = {k: v.detach() for k, v in network.named_parameters() if v.requires_grad}
    held = {k: v.detach() for k, v in network.named_parameters() if not v.requires_grad}
    held |= dict(network.named_buffers())

    def loss(trained: Mapping[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(network, {**held, **trained}, (image[None],))
        # In float64 what is left of a memorized sample's error is not rounded away.
        return cross_entropy(logits.double(), label[None])

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))
    a_sample = sum(v.numel() * v.element_size() for v in parameters.values())
    chunk = max(1, memory_bytes // max(1, a_sample))
    square = torch.zeros(len(labels), dtype=torch.float64, device=labels.device)
    for start in range(0, len(labels) if parameters else 0, chunk):
        rows = slice(start, start + chunk)
        for found in gradients(parameters, images[rows], labels[rows]).values():
            # The norm in float64 copies what it is given: of a whole layer that would take twice
            # the memory of the gradients themselves.
            for part in found.flatten(1).split(max(1, _AT_ONCE // len(found)), dim=1):
                norm = torch.linalg.vector_norm(part, dim=1, dtype=torch.float64)
                square[rows] += norm.square()
    return square.sqrt()


def odin_from_model(
    forward: Callable[[Tensor], Tensor],
    images: Float[Tensor, "samples channels height width"],
    *,
    temperature: SupportsFloat = 1000.0,
    epsilon: SupportsFloat = 0.0014,
) -> Float64[Tensor, " samples"]:
    """ODIN: largest softmax probability at a high temperature, after a step that raises it.

    ``x - epsilon sign(grad CE(z(x) / T, argmax z))``, where a gradient of 0 counts as positive.
    At a temperature of 1000 all scores are near one over the number of classes, hence float64.

    Args:
        forward: From images to logits, each sample alone.
        images: In the units of ``epsilon``; pixels in 0..1 for the default.
        temperature: Divides the logits.
        epsilon: Length of the step in every pixel; 0 for none.

    Returns:
        One probability per sample.

    Raises:
        ValueError: If the temperature is not positive.

    References:
        Liang et al., "Enhancing the Reliability of Out-of-Distribution Image Detection in Neural
        Networks", ICLR 2018, equations 1 and 2. Agrees with facebookresearch/odin, calData.py,
        which divides the step by each channel's spread because it steps in normalised units;
        deeplearning-wisc/gradnorm_ood does not divide. Agrees with pytorch-ood, given those
        spreads, but that it takes no step where the gradient is 0.
    """
    temperature, epsilon = float(temperature), float(epsilon)
    if not temperature > 0:
        raise ValueError(f"expected a positive temperature; got {temperature}")
    moved = images.detach()
    if epsilon:
        with torch.enable_grad():
            x = moved.clone().requires_grad_()
            logits = forward(x).double() / temperature
            loss = cross_entropy(logits, logits.argmax(1), reduction="sum")
            (slope,) = torch.autograd.grad(loss, x)
        moved = moved - epsilon * torch.where(slope >= 0, 1.0, -1.0)
    with torch.no_grad():
        return logit_signals.max_softmax_from_logits(forward(moved).double() / temperature)


def input_gradient(
    forward: Callable[[Tensor], Tensor],
    images: Float[Tensor, "samples channels height width"],
    labels: Int64[Tensor, " samples"],
    *,
    of: Callable[[Tensor, Tensor], Tensor],
) -> Float[Tensor, "samples height width"]:
    """Gradient of a number of each sample with respect to its pixels, the channels' mean.

    Args:
        forward: From images to logits, each sample alone.
        images: The gradient is in their units.
        labels: Handed on to ``of``.
        of: From logits and labels to one number per sample; ``label_logit`` or
            ``label_probability``.
    """
    with torch.enable_grad():
        x = images.detach().requires_grad_()
        (slope,) = torch.autograd.grad(of(forward(x), labels).sum(), x)
    return slope.mean(1)


def label_logit(logits: Tensor, labels: Tensor) -> Tensor:
    """The label's logit, of which VoG's paper and first code take the gradient."""
    return logits.gather(1, labels[:, None])[:, 0]


def label_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """The label's softmax probability, of which later codes take the gradient."""
    return log_softmax(logits.double(), 1).gather(1, labels[:, None])[:, 0].exp()


def vog_from_gradients(
    gradients: Float[Tensor, "checkpoints samples height width"],
) -> Float64[Tensor, " samples"]:
    """VoG: spread over checkpoints of a sample's input gradient, the mean over its pixels.

    ``mean_pixels sqrt(mean_k (G_k - mean G)^2)``, not yet compared within the class.

    Args:
        gradients: `input_gradient` at each checkpoint.

    Returns:
        One value per sample; NaN with fewer than two checkpoints, which have no spread.

    References:
        Agarwal, D'souza and Hooker, "Estimating Example Difficulty Using Variance of Gradients",
        CVPR 2022, equations 2 and 3. Agrees with chirag126/VOG, imagenet/train_visualize_grad.py;
        its toy_script.py accumulates gradients over epochs, and nn_example_difficulty takes the
        unbiased variance without a root.
    """
    if len(gradients) < 2:  # noqa: PLR2004 - no spread of one
        shape = (gradients.shape[1],)
        return torch.full(shape, torch.nan, dtype=torch.float64, device=gradients.device)
    spread = gradients.double().std(0, correction=0)
    return spread.flatten(1).mean(1)


def dropout_log_probs(
    network: nn.Module, images: Float[Tensor, "samples channels height width"], draws: int
) -> Float64[Tensor, "draws samples classes"]:
    """Log-probabilities of several passes with dropout on and everything else in eval mode.

    Randomness is torch's global stream: the caller seeds it.

    Args:
        network: From images to logits; its mode is put back.
        images: As the network takes them.
        draws: Passes.
    """
    with _only_dropout_trains(network), torch.no_grad():
        return torch.stack([log_softmax(network(images).double(), 1) for _ in range(draws)])


def drops_units(network: nn.Module) -> bool:
    """Whether a network has dropout that drops anything."""
    return any(layer.p > 0 for layer in _dropouts(network))


@contextlib.contextmanager
def _only_dropout_trains(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    for layer in _dropouts(network):
        layer.training = True
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _dropouts(network: nn.Module) -> Sequence[nn.modules.dropout._DropoutNd]:
    base = nn.modules.dropout._DropoutNd  # noqa: SLF001 - what all of them have in common
    return [module for module in network.modules() if isinstance(module, base)]


def _refuse_training(network: nn.Module) -> None:
    if any(module.training for module in network.modules()):
        raise ValueError("expected a network in eval mode; got one that is training")
