"""What the runs of a sweep must record, derived from its metrics and the dataset's size."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hardness.dynamics.record import Recording
from hardness.limits import Limit, limits
from hardness.metrics.registry import METRICS
from hardness.scoring import runs
from hardness.training import REGIMENS
from hardness.training.passes import schedule

# Inputs of metrics that need no recording: they come from the dataset, its images or the summary
# of an epoch.
GIVEN = frozenset({*runs.GIVEN, "images", "pixel_distances"})
_SNAPSHOTS = frozenset({"emb", "logits", "holdout_probs"})
_ALL = ("all",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Large signals that a run keeps beside its per-epoch signals.

    If ``logits`` is left out, those of the last epoch are kept unless the dataset is too large.
    """

    embedding: Literal["last", "none"] = "last"
    logits: Literal["last", "none"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """Effect of a limit of the dataset's size on one sweep.

    Args:
        limit: The limit.
        metrics: Keys of the metrics that the limit turns off or makes approximate.
        snapshots: Snapshots that are not kept because of the limit.
    """

    limit: Limit
    metrics: tuple[str, ...]
    snapshots: tuple[str, ...] = ()

    def __str__(self) -> str:
        # A variant is left out if its metric is named.
        plain = {key for key in self.metrics if "." not in key}
        names = [k for k in self.metrics if k in plain or k.partition(".")[0] not in plain]
        subjects = ", ".join([*(f"last {name}" for name in self.snapshots), *names])
        return f"{'off' if self.limit.off else 'approximated'}: {subjects}: {self.limit.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What the runs of a sweep must record.

    Args:
        metrics: Keys of the metrics that are computed.
        signals: Signals that the metrics read and a run can record, by regimen.
        passes: Scoring passes that record some of these signals, by regimen.
        score_epochs: Epochs of the scoring passes; if None, each pass has its own.
        ruled_out: Snapshots that the file turns off or the dataset's size forbids.
        shortfalls: Effects of the dataset's size on what the file asks for.
        adaptive: Regimens that record the metric for adaptive seeds.
    """

    metrics: tuple[str, ...]
    signals: Mapping[str, frozenset[str]]
    passes: Mapping[str, tuple[str, ...]]
    score_epochs: tuple[int, ...] | None
    ruled_out: frozenset[str]
    shortfalls: tuple[Shortfall, ...]
    adaptive: frozenset[str]

    @classmethod
    def of(
        cls,
        regimens: Iterable[str],
        metrics: tuple[str, ...],
        keep: Keep,
        size: Sequence[int] | None,
        *,
        score_epochs: tuple[int, ...] | None = None,
        until: str | None = None,
    ) -> "Needs":
        """Derive the needs of a sweep.

        Args:
            regimens: Keys of ``REGIMENS``.
            metrics: Keys of ``METRICS``, or ``all`` alone.
            keep: Large signals that the file asks to keep.
            size: Samples, classes and image shape of the dataset; None if it is not known.
            score_epochs: Epochs of the scoring passes; if None, each pass has its own.
            until: Key of the metric for adaptive seeds, which no limit turns off.
        """
        can_record = {regimen: offered(regimen) for regimen in regimens}
        named = () if until is None else (until,)
        found = _limits(size, keep)
        off = {name for limit in found if limit.off for name in limit.names}
        asked = _asked(metrics, named, off)
        ruled_out = _ruled_out(keep, off)
        signals = {
            regimen: _needed(asked, named, everything, ruled_out if metrics == _ALL else ())
            for regimen, everything in can_record.items()
        }
        recorded = frozenset().union(*can_record.values())
        return cls(
            metrics=asked,
            signals=signals,
            passes={regimen: _passes(regimen, mine) for regimen, mine in signals.items()},
            score_epochs=score_epochs,
            ruled_out=ruled_out,
            shortfalls=_shortfalls(found, asked, named, recorded, everything=metrics == _ALL),
            adaptive=frozenset(
                regimen
                for regimen, everything in can_record.items()
                if until is not None and everything.issuperset(METRICS[until].signals)
            ),
        )

    @property
    def recording(self) -> Recording:
        """The recording of every run, the same for all regimens."""
        asked = frozenset().union(*self.signals.values())
        kept = asked | ({"emb", "logits"} - self.ruled_out)
        return Recording(
            snapshots=tuple(name for name in Recording().snapshots if name in kept),
            passes=tuple(dict.fromkeys(name for names in self.passes.values() for name in names)),
            score_epochs=self.score_epochs,
        )

    def passes_of(self, regimen: str, epochs: int) -> dict[str, tuple[int, ...]]:
        """Scoring passes of a run with this number of epochs, each with its epochs."""
        recording = Recording(passes=self.passes[regimen], score_epochs=self.score_epochs)
        return schedule(REGIMENS[regimen].passes, recording, epochs)

    @property
    def approximated(self) -> dict[str, str]:
        """Metrics that the dataset's size makes approximate, each with its approximation."""
        found = (shortfall for shortfall in self.shortfalls if not shortfall.limit.off)
        return {key: shortfall.limit.why for shortfall in found for key in shortfall.metrics}

    @property
    def nameable(self) -> list[str]:
        """Possible keys of scores: metrics, pixel metrics, and ``metric.regimen``."""
        pixels = [key for key, metric in METRICS.items() if metric.scope == "pixels"]
        of_regimens = [f"{key}.{regimen}" for regimen in self.signals for key in self.metrics]
        return [*dict.fromkeys([*self.metrics, *pixels, *of_regimens])]


def offered(regimen: str) -> frozenset[str]:
    """Inputs that metrics can read from runs of a regimen and from the dataset."""
    return GIVEN.union(REGIMENS[regimen].offered)


def _limits(size: Sequence[int] | None, keep: Keep) -> list[Limit]:
    """Limits of the dataset's size, without those that the file overrides."""
    if size is None:
        return []
    samples, n_classes, *image_shape = size
    found = limits(samples, n_classes, image_shape)
    return [limit for limit in found if keep.logits is None or "logits" not in limit.names]


def _asked(metrics: tuple[str, ...], named: tuple[str, ...], off: Iterable[str]) -> tuple[str, ...]:
    """Keys of the asked metrics; ``all`` means named metrics and those that no limit turns off."""
    if metrics != _ALL:
        return (*metrics, *(key for key in named if key not in metrics))
    return tuple(key for key in METRICS if key in named or not _concerned(key, off))


def _ruled_out(keep: Keep, off: Iterable[str]) -> frozenset[str]:
    # Probabilities are as large as the logits.
    names = {"emb": keep.embedding, "logits": keep.logits, "holdout_probs": keep.logits}
    unwanted = {name for name, when in names.items() if when == "none"}
    return _SNAPSHOTS.intersection(off) | unwanted


def _needed(
    asked: Iterable[str], named: Iterable[str], everything: frozenset[str], not_kept: Iterable[str]
) -> frozenset[str]:
    """Signals that the asked metrics need and a regimen can record.

    Args:
        asked: Keys of the metrics.
        named: Keys of the metrics that may also use the snapshots in ``not_kept``.
        everything: Inputs that metrics can read from the regimen.
        not_kept: Snapshots that are kept only for named metrics.
    """
    kept = everything.difference(not_kept)
    inputs = (
        METRICS[key].signals
        for key in asked
        if (everything if key in named else kept).issuperset(METRICS[key].signals)
    )
    return frozenset().union(*inputs) - GIVEN


def _passes(regimen: str, signals: frozenset[str]) -> tuple[str, ...]:
    passes = REGIMENS[regimen].passes
    return tuple(name for name, one in passes.items() if signals.intersection(one.signals))


def _shortfalls(
    found: Iterable[Limit],
    asked: Sequence[str],
    named: Iterable[str],
    recorded: frozenset[str],
    *,
    everything: bool,
) -> tuple[Shortfall, ...]:
    """Limits that affect a sweep, each with its metrics and snapshots.

    Args:
        found: Limits of the dataset's size.
        asked: Keys of the asked metrics.
        named: Keys of the metrics that no limit turns off.
        recorded: Inputs that metrics can read from at least one regimen.
        everything: Whether the file asks for all metrics. Only then limits turn metrics off.
    """
    shortfalls = []
    for limit in found:
        snapshots = _SNAPSHOTS.intersection(limit.names, recorded) if limit.off else ()
        on = named if limit.off else ()
        candidates = [key for key in METRICS if key not in on]
        if not everything:
            candidates = [] if limit.off else [*asked]
        metrics = tuple(
            key
            for key in candidates
            if _concerned(key, limit.names) and recorded.issuperset(METRICS[key].signals)
        )
        if snapshots or metrics:
            shortfalls.append(
                Shortfall(limit=limit, metrics=metrics, snapshots=tuple(sorted(snapshots)))
            )
    return tuple(shortfalls)


def _concerned(key: str, names: Iterable[str]) -> bool:
    """Whether one of these names is the metric, its base metric or one of its signals."""
    return not {key, key.partition(".")[0], *METRICS[key].signals}.isdisjoint(names)
