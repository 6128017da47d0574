"""Per-sample signals that need the model itself: gradients, perturbed inputs, dropout.

The caller puts networks into eval mode. In training mode, batch statistics would mix the samples,
and no gradient would belong to one sample alone.
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

# Most bytes of per-sample gradients held in memory at once.
GRADIENT_BYTES = 1 << 28
# Most numbers copied to float64 at once.
_AT_ONCE = 1 << 20


def grand_from_model(
    network: nn.Module,
    images: Float[Tensor, "samples channels height width"],
    labels: Int64[Tensor, " samples"],
    *,
    memory_bytes: int = GRADIENT_BYTES,
) -> Float64[Tensor, " samples"]:
    """GraNd: norm of the loss's gradient with respect to all trainable parameters, per sample.

    Args:
        network: Network from images to logits, in eval mode.
        images: Images as the network takes them.
        labels: Labels that training used.
        memory_bytes: Limit on the gradients held at once; one sample alone may exceed it.

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
        # Float64 keeps the tiny error of a memorized sample, which float32 would round to 0.
        return cross_entropy(logits.double(), label[None])

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))
    a_sample = sum(v.numel() * v.element_size() for v in parameters.values())
    chunk = max(1, memory_bytes // max(1, a_sample))
    square = torch.zeros(len(labels), dtype=torch.float64, device=labels.device)
    for start in range(0, len(labels) if parameters else 0, chunk):
        rows = slice(start, start + chunk)
        for found in gradients(parameters, images[rows], labels[rows]).values():
            # The norm in float64 copies its input. Parts keep that copy small: for a whole layer it
            # would take twice the memory of the gradients.
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

    The step is ``x - epsilon sign(grad CE(z(x) / T, argmax z))``; a gradient of 0 counts as
    positive. Float64, since all scores are near one over the number of classes at T = 1000.

    Args:
        forward: Function from images to logits that treats each sample alone.
        images: Images in the units of ``epsilon``; pixels in 0..1 for the default.
        temperature: Temperature T that divides the logits.
        epsilon: Length of the step in every pixel; 0 for no step.

    Returns:
        One probability per sample.

    Raises:
        ValueError: If the temperature is not positive.

    References:
        Liang et al., "Enhancing the Reliability of Out-of-Distribution Image Detection in Neural
        Networks", ICLR 2018, equations 1 and 2. Agrees with facebookresearch/odin, calData.py,
        which divides the step by each channel's spread because its images are normalised;
        deeplearning-wisc/gradnorm_ood does not divide. Agrees with pytorch-ood, given those
        spreads, except that pytorch-ood takes no step where the gradient is 0.
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
    """Gradient of one output per sample with respect to its pixels, averaged over channels.

    Args:
        forward: Function from images to logits that treats each sample alone.
        images: Images; the gradient is in their units.
        labels: Labels, passed to ``of``.
        of: Function from logits and labels to one number per sample: ``label_logit`` or
            ``label_probability``.
    """
    with torch.enable_grad():
        x = images.detach().requires_grad_()
        (slope,) = torch.autograd.grad(of(forward(x), labels).sum(), x)
    return slope.mean(1)


def label_logit(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the label; the VoG paper and its first code use its gradient."""
    return logits.gather(1, labels[:, None])[:, 0]


def label_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax probability of the label; later implementations of VoG use its gradient."""
    return log_softmax(logits.double(), 1).gather(1, labels[:, None])[:, 0].exp()


def vog_from_gradients(
    gradients: Float[Tensor, "checkpoints samples height width"],
) -> Float64[Tensor, " samples"]:
    """VoG: spread of a sample's input gradient over checkpoints, averaged over its pixels.

    ``mean_pixels sqrt(mean_k (G_k - mean G)^2)``, before the normalisation within each class.

    Args:
        gradients: Result of ``input_gradient`` at each checkpoint.

    Returns:
        One value per sample; NaN with fewer than two checkpoints.

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

    The random numbers come from torch's global stream, which the caller seeds.

    Args:
        network: Network from images to logits; its mode is restored afterwards.
        images: Images as the network takes them.
        draws: Number of passes.
    """
    with _only_dropout_trains(network), torch.no_grad():
        return torch.stack([log_softmax(network(images).double(), 1) for _ in range(draws)])


def drops_units(network: nn.Module) -> bool:
    """Whether a network has a dropout layer with a rate above 0."""
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
    base = nn.modules.dropout._DropoutNd  # noqa: SLF001 - the base of all dropout layers
    return [module for module in network.modules() if isinstance(module, base)]


def _refuse_training(network: nn.Module) -> None:
    if any(module.training for module in network.modules()):
        raise ValueError("expected a network in eval mode; got one that is training")
