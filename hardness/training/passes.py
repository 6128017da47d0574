"""Scoring passes: signals that need the model itself, recorded only in some epochs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hardness.dynamics.record import Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One scoring pass of a regimen.

    Args:
        signals: Names of the signals that it records.
        epochs: Function from the number of epochs of a run to the epochs in which the pass runs by
            default, from 0 and ascending.
        forwards: Cost in forward passes per sample; a backward pass counts as two.
        at_end: Whether it needs the whole training, so that no other epochs can be requested.
    """

    signals: tuple[str, ...]
    epochs: Callable[[int], tuple[int, ...]]
    forwards: int
    at_end: bool = False


def schedule(
    passes: Mapping[str, Pass], recording: Recording, epochs: int
) -> dict[str, tuple[int, ...]]:
    """The requested passes of a run, and the epochs in which each of them runs.

    Args:
        passes: Passes of the regimen, by name.
        recording: Names of requested passes, some perhaps of other regimens, and ``score_epochs``.
        epochs: Number of epochs of the run.

    Raises:
        ValueError: If ``score_epochs`` names an epoch that the run does not have.
    """
    asked = {name: passes[name] for name in recording.passes if name in passes}
    chosen = recording.score_epochs
    if chosen is None or not asked:
        return {name: one.epochs(epochs) for name, one in asked.items()}
    outside = [epoch for epoch in chosen if not -epochs <= epoch < epochs]
    if outside:
        raise ValueError(
            f"score_epochs: expected epochs from {-epochs} to {epochs - 1}; got {outside[0]}"
        )
    counted = tuple(sorted({epoch % epochs for epoch in chosen}))
    return {name: one.epochs(epochs) if one.at_end else counted for name, one in asked.items()}


def due(passes: Mapping[str, tuple[int, ...]], epoch: int) -> list[str]:
    """Names of the scheduled passes that run in this epoch."""
    return [name for name, epochs in passes.items() if epoch in epochs]


def last(epochs: int) -> tuple[int, ...]:
    """Only the last epoch."""
    return (epochs - 1,)


def evenly(epochs: int, count: int = 10) -> tuple[int, ...]:
    """``count`` evenly spaced epochs, with the first and the last; all if there are no more.

    Example:
        >>> evenly(20, count=3), evenly(2)
        ((0, 10, 19), (0, 1))
    """
    if epochs <= count:
        return tuple(range(epochs))
    return tuple((step * (epochs - 1) + (count - 1) // 2) // (count - 1) for step in range(count))


def ends_and_between(epochs: int, each: int = 5) -> tuple[int, ...]:
    """The first ``each`` epochs, the last ``each``, and ``each`` evenly spaced ones in between.

    Example:
        >>> ends_and_between(30, each=2)
        (0, 1, 10, 19, 28, 29)
    """
    if epochs <= 3 * each:
        return tuple(range(epochs))
    between = (each + (epochs - 2 * each) * step // (each + 1) for step in range(1, each + 1))
    return (*range(each), *between, *range(epochs - each, epochs))


# Number of dropout draws, checkpoints of VoG, and pairs of views that a score averages over.
DROPOUT_DRAWS = 20
CHECKPOINTS = 10
PAIRS_OF_VIEWS = 2
OF_CLASSIFIERS: dict[str, Pass] = {
    "grand": Pass(signals=("grand",), epochs=last, forwards=3),
    "odin": Pass(signals=("odin", "odin.unperturbed"), epochs=last, forwards=5),
    "mc_dropout": Pass(
        signals=("mc_dropout_entropy", "mc_dropout_bald"), epochs=last, forwards=DROPOUT_DRAWS
    ),
    # Two gradients at each checkpoint: of the logit and of the probability.
    "vog": Pass(
        signals=("vog", "vog.early", "vog.late", "vog_prob"),
        epochs=last,
        forwards=6 * CHECKPOINTS,
        at_end=True,
    ),
}
# The other passes read gradients of a training that included the sample.
OUT_OF_FOLD = {name: OF_CLASSIFIERS[name] for name in ("odin", "mc_dropout")}
OF_CONTRASTIVE: dict[str, Pass] = {
    # Two gradients of each view: of the batch's loss and of the sample's own loss.
    "views": Pass(
        signals=(
            "ssl_loss_ntxent",
            "barlow_influence",
            "barlow_alignment",
            "lgn",
            "lgn.stacked",
            "lgn.own",
            "ssl_param_grad_norm",
            "ssl_param_grad_norm.l1",
        ),
        epochs=ends_and_between,
        forwards=PAIRS_OF_VIEWS * 2 * 5,
    ),
    "perturbation": Pass(
        signals=("ssl_perturbation_gain",), epochs=last, forwards=PAIRS_OF_VIEWS * 2 * 4
    ),
}
