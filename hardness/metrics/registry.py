"""The registry of metrics: the signals, sign and source of each metric."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64

from hardness.metrics.axes import Function, checked_axes
from hardness.signals.names import LOGIT_SIGNALS

Family: TypeAlias = Literal["supervised", "loss-based", "unsupervised", "uncertainty"]
LabelsUsed: TypeAlias = Literal["none", "others", "own"]
Scope: TypeAlias = Literal["run", "seeds", "pixels"]
# Name of the parameter, and of the signal, for the epochs in which a sample was seen.
SEEN = "seen"
# For each regimen, whose labels the network has seen when it scores a sample.
TRAINED_ON: dict[str, LabelsUsed] = {
    "supervised": "own",
    "second_split": "own",
    "cross_fit": "others",
    "contrastive": "none",
    "autoencoder": "none",
}
_MORE_TO_LESS: tuple[LabelsUsed, ...] = ("own", "others", "none")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Metric:
    """One entry of ``METRICS``.

    Args:
        key: Unique name: the function's name, plus a dotted suffix for a variant.
        family: Branch of the literature that the metric comes from.
        sign: Factor that makes high values hard: ``hardness = sign * raw``.
        sign_origin: Source of the sign: the paper, a measurement, or only a hypothesis.
        scope: Data behind one value: one run, several runs, or the images alone.
        labels_used: Labels that the metric itself reads; ``labels_used()`` adds those of training.
        measures: Meaning of a high value of hardness.
        inputs: Name of a signal for each parameter of ``function``.
        summary: One clause for lists of metrics.
        paper: Publication that the metric comes from.
        version: Version of the scores, raised when a fix changes them.
        function: Function from inputs by keyword to one raw score per sample.
        flag: Function for an extra boolean column named after it; it gets the inputs that it names.
        whole: Whether a sample's score depends on other samples, so that the function needs all
            samples of a run at once. A metric that reads a snapshot always gets all samples.
        last_epoch: Whether the function reads only the last row of each signal.
    """

    key: str
    family: Family
    sign: Literal[1, -1]
    sign_origin: Literal["published", "measured", "hypothesis"]
    scope: Scope
    labels_used: LabelsUsed
    measures: Literal["hardness", "ambiguity", "utility"]
    inputs: Mapping[str, str] = field(repr=False)
    summary: str
    paper: str
    version: int
    function: Callable[..., np.ndarray] = field(repr=False)
    flag: Callable[..., np.ndarray] | None = field(repr=False)
    whole: bool = False
    last_epoch: bool = False

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of the signals that the metric reads."""
        return tuple(self.inputs.values())

    @property
    def undefined(self) -> str:
        """Which samples have no score: the NaN clause of the function's docstring, or ""."""
        documented = inspect.getdoc(getattr(self.function, "func", self.function)) or ""
        returned = " ".join(documented.partition("Returns:")[2].partition("\n\n")[0].split())
        clause = re.search(r"NaN[^;.]*", returned)
        return clause[0].replace("``", "") if clause else ""

    @property
    def seen(self) -> str | None:
        """The ``seen`` signal of the metric's phase, or None if its function does not take it."""
        if SEEN not in inspect.signature(self.function).parameters:
            return None
        return f"{SEEN}.train" if any(s.endswith(".train") for s in self.signals) else SEEN

    def score(self, signals: Mapping[str, Any]) -> Float64[np.ndarray, " samples"]:
        """Raw scores from signals by name; signals that the metric does not read are ignored.

        Without a ``seen`` signal, every sample counts as seen in every epoch.
        """
        return self.function(**self._given(signals))

    def flagged(self, signals: Mapping[str, Any]) -> Bool[np.ndarray, " samples"] | None:
        """The flag's column, or None for a metric without one."""
        if self.flag is None:
            return None
        asked = inspect.signature(self.flag).parameters
        return self.flag(**{p: v for p, v in self._given(signals).items() if p in asked})

    def _given(self, signals: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: signals[signal] for name, signal in self.inputs.items()}
        seen = self.seen
        return given | ({SEEN: signals[seen]} if seen and seen in signals else {})


METRICS: dict[str, Metric] = {}


def metric(
    *,
    family: Family,
    sign: Literal[1, -1],
    sign_origin: Literal["published", "measured", "hypothesis"],
    labels_used: LabelsUsed,
    summary: str,
    paper: str,
    scope: Scope = "run",
    measures: Literal["hardness", "ambiguity", "utility"] = "hardness",
    signals: Sequence[str] | Mapping[str, str] | None = None,
    version: int = 1,
    flag: Callable[..., np.ndarray] | None = None,
    whole: bool = False,
    last_epoch: bool = False,
    train_variant: bool = False,
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    signal_variants: Mapping[str, Mapping[str, str]] | None = None,
) -> Callable[[Function], Function]:
    """Register a function under its own name, and check the axes of its arrays at each call.

    Args:
        family: As in ``Metric``.
        sign: As in ``Metric``.
        sign_origin: As in ``Metric``.
        labels_used: As in ``Metric``.
        summary: As in ``Metric``.
        paper: As in ``Metric``.
        scope: As in ``Metric``.
        measures: As in ``Metric``.
        signals: Parameters to fill with the signals of the same names, or the name of a signal for
            each parameter. If left out, all parameters without a default.
        version: As in ``Metric``.
        flag: As in ``Metric``.
        whole: As in ``Metric``.
        last_epoch: As in ``Metric``. It does not apply to ``variants``, whose arguments may select
            other epochs.
        train_variant: Whether to register ``key.train`` too, which reads the logit signals of the
            training step instead of those of the evaluation pass.
        variants: Keyword arguments by variant: each name registers ``key.name`` with its arguments
            fixed.
        signal_variants: Signals by variant: each name registers ``key.name``, which reads its
            signals instead.

    Raises:
        ValueError: If another function has the key, or ``signals`` names something that is not a
            parameter.

    Example:
        Your own metric, in a file named under ``plugins``::

            @metric(family="supervised", sign=1, sign_origin="hypothesis", labels_used="own",
                    summary="largest loss of any epoch", paper="none")
            def worst_loss(loss):
                return loss.astype(np.float64).max(axis=0)
    """

    def register(function: Function) -> Function:
        function = checked_axes(function)
        key = function.__name__
        inputs = _inputs(function, signals)
        entries: dict[str, tuple[Mapping[str, str], Callable[..., np.ndarray]]] = {}
        entries[key] = inputs, function
        if train_variant:
            entries[f"{key}.train"] = _train_inputs(key, inputs), function
        for name, fixed in (variants or {}).items():
            entries[f"{key}.{name}"] = inputs, partial(function, **fixed)
        for name, others in (signal_variants or {}).items():
            entries[f"{key}.{name}"] = {**inputs, **_inputs(function, others)}, function
        for name in entries:
            _refuse_another(name, function)
        for name, (reads, call) in entries.items():
            METRICS[name] = Metric(
                key=name,
                family=family,
                sign=sign,
                sign_origin=sign_origin,
                scope=scope,
                labels_used=labels_used,
                measures=measures,
                inputs=reads,
                summary=summary,
                paper=paper,
                version=version,
                function=call,
                flag=flag,
                whole=whole,
                last_epoch=last_epoch and not isinstance(call, partial),
            )
        return function

    return register


def labels_used(metric: Metric, regimen: str) -> LabelsUsed:
    """Whose labels a score has seen, through the metric or through training.

    Args:
        metric: Entry of ``METRICS``; the score has seen at least the labels that this entry uses.
        regimen: Regimen of the training. Supervised training has seen the sample's own label,
            cross-fitting the labels of other folds, self-supervised training none. Metrics of
            pixels read no training, so their regimen does not matter.

    Raises:
        ValueError: If the regimen is unknown.

    Example:
        >>> from hardness.metrics import METRICS
        >>> labels_used(METRICS["max_softmax"], "cross_fit")
        'others'
    """
    if regimen not in TRAINED_ON:
        raise ValueError(f"expected a regimen out of {', '.join(TRAINED_ON)}; got {regimen!r}")
    if metric.scope == "pixels":
        return metric.labels_used
    return min(metric.labels_used, TRAINED_ON[regimen], key=_MORE_TO_LESS.index)


def _inputs(
    function: Callable[..., Any], signals: Sequence[str] | Mapping[str, str] | None
) -> dict[str, str]:
    parameters = inspect.signature(function).parameters
    if signals is None:
        required = [
            p.name
            for p in parameters.values()
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        return {name: name for name in required}
    unknown = [name for name in signals if name not in parameters]
    if unknown:
        raise ValueError(
            f"{function.__name__}: expected signals among its parameters "
            f"{', '.join(parameters)}; got {', '.join(unknown)}"
        )
    return dict(signals) if isinstance(signals, Mapping) else {name: name for name in signals}


def _train_inputs(key: str, inputs: Mapping[str, str]) -> dict[str, str]:
    if not any(signal in LOGIT_SIGNALS for signal in inputs.values()):
        raise ValueError(
            f"{key}: expected a signal of the training step, out of {', '.join(LOGIT_SIGNALS)}; "
            f"got {', '.join(inputs.values())}"
        )
    return {p: f"{s}.train" if s in LOGIT_SIGNALS else s for p, s in inputs.items()}


def _refuse_another(key: str, function: Callable[..., Any]) -> None:
    if key not in METRICS:
        return
    known = METRICS[key].function
    new, old = (inspect.unwrap(f.func if isinstance(f, partial) else f) for f in (function, known))
    # A plugin may be loaded twice: under another module name, or as a copy in another folder.
    location = new.__code__.co_filename, new.__qualname__
    if location == (old.__code__.co_filename, old.__qualname__) or new.__code__ == old.__code__:
        return
    raise ValueError(
        f"expected a new key; got {key!r}, which {old.__module__} has registered: "
        "rename the function"
    )
