"""Per-sample signals of one epoch from logits, labels and embeddings.

A function's name says what it computes and from what: ``el2n_from_logits`` computes the signal
``el2n``. The metric ``el2n`` turns the recorded signal into a score.

Every function works in float64 on the device of its input, in blocks of samples. It returns
tensors for tensors and NumPy arrays for NumPy arrays. A row with a NaN gives NaN (False for
``correct``) and does not affect other rows.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, SupportsFloat

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, Shaped

from hardness.signals.blocks import Array, as_matrix, in_kind, row_blocks, shape_of, to_tensor


def from_logits(
    logits: Float[Array, "samples classes"], labels: Integer[Array, " samples"]
) -> dict[str, Shaped[Array, " samples"]]:
    """Every signal of ``LOGIT_SIGNALS`` in one shared pass, as float32 (``correct`` as bool).

    Args:
        logits: Logits of one epoch.
        labels: Labels that training used.

    Returns:
        Values by signal name: the results of ``<name>_from_logits``, rounded to float32.

    Raises:
        ValueError: If a label is not a class or the arrays disagree in length.

    Example:
        >>> signals = from_logits(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0, 0]))
        >>> signals["correct"].tolist(), signals["label_margin"].tolist()
        ([True, False], [2.0, -1.0])
    """
    return _evaluate(_FORMULAS, logits, labels, torch.float32)


def loss_from_logits(
    logits: Float[Array, "samples classes"], labels: Integer[Array, " samples"]
) -> Float[Array, " samples"]:
    """Cross-entropy of the label, ``-ln p_y``, in nats.

    Raises:
        ValueError: If a label is not a class or the arrays disagree in length.
    """
    return _one("loss", logits, labels)


def p_label_from_logits(
    logits: Float[Array, "samples classes"], labels: Integer[Array, " samples"]
) -> Float[Array, " samples"]:
    """Softmax probability of the label.

    Raises:
        ValueError: If a label is not a class or the arrays disagree in length.
    """
    return _one("p_label", logits, labels)


def label_margin_from_logits(
    logits: Float[Array, "samples classes"], labels: Integer[Array, " samples"]
) -> Float[Array, " samples"]:
    """Logit of the label minus the largest other logit; NaN where there is no other class.

    Raises:
        ValueError: If a label is not a class or the arrays disagree in length.
    """
    return _one("label_margin", logits, labels)


def correct_from_logits(
    logits: Float[Array, "samples classes"], labels: Integer[Array, " samples"]
) -> Bool[Array, " samples"]:
    """Whether the largest logit is the label's; among equal logits the lowest class counts.

    Raises:
        ValueError: If a label is not a class or the arrays disagree in length.
    """
    return _one("correct", logits, labels)


def entropy_from_logits(logits: Float[Array, "samples classes"]) -> Float[Array, " samples"]:
    """Shannon entropy of the softmax in nats, with ``0 ln 0 = 0``."""
    return _one("entropy", logits)


def el2n_from_logits(
    logits: Float[Array, "samples classes"], labels: Integer[Array, " samples"]
) -> Float[Array, " samples"]:
    """Euclidean norm of the error vector, ``|p - onehot(y)|``; not squared.

    Raises:
        ValueError: If a label is not a class or the arrays disagree in length.
    """
    return _one("el2n", logits, labels)


def max_softmax_from_logits(logits: Float[Array, "samples classes"]) -> Float[Array, " samples"]:
    """Largest softmax probability."""
    return _one("max_softmax", logits)


def margin_from_logits(logits: Float[Array, "samples classes"]) -> Float[Array, " samples"]:
    """Largest minus second largest softmax probability; NaN with one class."""
    return _one("margin", logits)


def energy_from_logits(
    logits: Float[Array, "samples classes"], temperature: SupportsFloat = 1.0
) -> Float[Array, " samples"]:
    """Free energy ``-T logsumexp(z / T)``; unlike the others it changes if all logits shift.

    Raises:
        ValueError: If the temperature is not positive.
    """
    temperature = float(temperature)
    if not temperature > 0:
        raise ValueError(f"expected a positive temperature; got {temperature}")
    if isinstance(logits, np.ndarray):
        return temperature * _one("energy", logits.astype(np.float64) / temperature)
    return temperature * _one("energy", logits.double() / temperature)


def grand_last_layer_from_head(
    emb: Float[Array, "samples width"],
    logits: Float[Array, "samples classes"],
    labels: Integer[Array, " samples"],
    *,
    bias: bool = True,
) -> Float[Array, " samples"]:
    """Norm of the loss's gradient with respect to a linear head, ``|p - y| sqrt(1 + |h|^2)``.

    Args:
        emb: Inputs h of the head.
        logits: Outputs of the head.
        labels: Labels that training used.
        bias: Whether the head has a bias, whose gradient is the 1 in the formula.

    Raises:
        ValueError: If axes are wrong, the arrays disagree in length, or a label is not a class.

    References:
        Paul et al., NeurIPS 2021, for the gradient norm (GraNd); the closed form agrees with
        autograd.
    """
    h, z = as_matrix(emb, "emb"), to_tensor(logits)
    # Broadcasting would hide the error: a single row would be used for all rows.
    if len(h) != len(z):
        raise ValueError(f"expected as many embeddings as logits; got {len(h)} and {len(z)}")
    error = el2n_from_logits(logits, labels)
    length = torch.empty(len(h), dtype=torch.float64, device=h.device)
    for rows in row_blocks(h):
        length[rows] = (h[rows].double().square().sum(1) + float(bias)).sqrt()
    return error * in_kind(length, emb)


def gradnorm_from_head(
    emb: Float[Array, "samples width"], logits: Float[Array, "samples classes"]
) -> Float[Array, " samples"]:
    """GradNorm: 1-norm of a linear head's weight gradient when every class is the target at once.

    ``|h|_1 sum_c |C p_c - 1|``, from the gradient of ``-sum_c ln p_c``. That is C times the
    gradient of the divergence from the uniform distribution at temperature 1, without the bias.

    Args:
        emb: Inputs h of the head.
        logits: Outputs of the head.

    Raises:
        ValueError: If axes are wrong or the arrays disagree in length.

    References:
        Huang, Geng and Li, "On the Importance of Gradients for Detecting Distributional Shifts in
        the Wild", NeurIPS 2021. Agrees with deeplearning-wisc/gradnorm_ood at batches of one;
        that code gives one value for a whole batch. It is C times pytorch-ood's value, which
        takes the mean over the C classes.
    """
    h, z = as_matrix(emb, "emb"), as_matrix(logits, "logits")
    if len(h) != len(z):
        raise ValueError(f"expected as many embeddings as logits; got {len(h)} and {len(z)}")
    out = torch.empty(len(z), dtype=torch.float64, device=z.device)
    for rows in row_blocks(z):
        block = _Rows(z[rows], None)
        distance = (block.exp / block.sum[:, None] * z.shape[1] - 1.0).abs().sum(1)
        out[rows] = h[rows].double().abs().sum(1) * distance
    return in_kind(out, logits)


class _Rows:
    """A block of logits in float64, and intermediate results that several signals share."""

    def __init__(self, logits: torch.Tensor, labels: torch.Tensor | None) -> None:
        self.z = logits.double()
        self.top = self.z.amax(1, keepdim=True)
        # Below -745 exp gives 0. The clamp keeps a logit of -inf from making 0 ln 0 a NaN.
        self.shifted = (self.z - self.top).clamp_(min=-1000.0)
        self.exp = self.shifted.exp()
        self.sum = self.exp.sum(1)
        self.log_sum = self.sum.log()
        self._labels = labels

    @property
    def labels(self) -> torch.Tensor:
        assert self._labels is not None
        return self._labels

    @cached_property
    def z_label(self) -> torch.Tensor:
        return self.z.gather(1, self.labels[:, None])[:, 0]

    @cached_property
    def argmax(self) -> torch.Tensor:
        # torch.argmax may return any of several equal classes. NaN rows give `classes`.
        classes = self.z.shape[1]
        index = torch.arange(classes, dtype=torch.int32, device=self.z.device)
        return torch.where(self.z == self.top, index, classes).amin(1)

    @cached_property
    def second(self) -> torch.Tensor:
        """The second largest logit, equal to the largest at a tie; NaN with one class."""
        if self.z.shape[1] == 1:
            return torch.full_like(self.sum, torch.nan)
        first = self.argmax.clamp(max=self.z.shape[1] - 1).long()[:, None]
        return self.z.scatter(1, first, -torch.inf).amax(1)


def _loss(rows: _Rows) -> torch.Tensor:
    return rows.log_sum - (rows.z_label - rows.top[:, 0])


def _p_label(rows: _Rows) -> torch.Tensor:
    return _loss(rows).neg_().exp_()


def _label_margin(rows: _Rows) -> torch.Tensor:
    largest_other = torch.where(rows.z_label == rows.top[:, 0], rows.second, rows.top[:, 0])
    return rows.z_label - largest_other


def _correct(rows: _Rows) -> torch.Tensor:
    return rows.argmax == rows.labels


def _entropy(rows: _Rows) -> torch.Tensor:
    return rows.log_sum - (rows.exp * rows.shifted).sum(1) / rows.sum


def _el2n(rows: _Rows) -> torch.Tensor:
    error = rows.exp / rows.sum[:, None]
    error.scatter_add_(1, rows.labels[:, None], torch.full_like(error[:, :1], -1.0))
    return torch.linalg.vector_norm(error, dim=1)


def _max_softmax(rows: _Rows) -> torch.Tensor:
    return rows.sum.reciprocal()


def _margin(rows: _Rows) -> torch.Tensor:
    return -torch.expm1(rows.second - rows.top[:, 0]) / rows.sum


def _energy(rows: _Rows) -> torch.Tensor:
    return -(rows.top[:, 0] + rows.log_sum)


_FORMULAS: dict[str, Callable[[_Rows], torch.Tensor]] = {
    "loss": _loss,
    "p_label": _p_label,
    "label_margin": _label_margin,
    "correct": _correct,
    "entropy": _entropy,
    "el2n": _el2n,
    "max_softmax": _max_softmax,
    "margin": _margin,
    "energy": _energy,
}


def _one(name: str, logits: Any, labels: Any = None) -> Any:
    return _evaluate({name: _FORMULAS[name]}, logits, labels, torch.float64)[name]


def _evaluate(
    formulas: Mapping[str, Callable[[_Rows], torch.Tensor]],
    logits: Any,
    labels: Any,
    dtype: torch.dtype,
) -> dict[str, Any]:
    z = to_tensor(logits)
    if z.ndim != 2 or not z.shape[1]:  # noqa: PLR2004 - samples and classes
        raise ValueError(f"expected logits of samples by at least one class; got {shape_of(z)}")
    y = None if labels is None else _checked(labels, z)
    columns = {
        name: torch.empty(len(z), dtype=torch.bool if name == "correct" else dtype, device=z.device)
        for name in formulas
    }
    for block in row_blocks(z):
        rows = _Rows(z[block], None if y is None else y[block])
        for name, formula in formulas.items():
            columns[name][block] = formula(rows)
    return {name: in_kind(column, logits) for name, column in columns.items()}


def _checked(labels: Any, logits: torch.Tensor) -> torch.Tensor:
    y = to_tensor(labels).to(logits.device, torch.int64)
    samples, classes = logits.shape
    if y.shape != (samples,):
        raise ValueError(f"expected one label for each of {samples} samples; got {shape_of(y)}")
    # Indexing would hide a negative label: it would read the last class.
    if ((y < 0) | (y >= classes)).any():
        raise ValueError(
            f"expected labels in 0 to {classes - 1}; got {int(y.min())} to {int(y.max())}"
        )
    return y
