"""How long a learned sample survives training on other samples."""

import numpy as np
from jaxtyping import Bool, Float64, Shaped

from hardness.metrics.axes import checked_axes
from hardness.metrics.history import answers, last_seen
from hardness.metrics.registry import metric


@checked_axes
def learned_at_switch(
    first_split: Shaped[np.ndarray, "first_epochs samples"],
) -> Bool[np.ndarray, " samples"]:
    """Whether a sample was correct at the end of training on its own half.

    Example:
        >>> learned_at_switch(np.array([[True, False], [False, True]])).tolist()
        [False, True]
    """
    return answers(first_split[-1:])[0][0]


@metric(
    family="supervised",
    sign=-1,
    sign_origin="published",
    labels_used="own",
    summary="epoch on the other half from which the sample stays forgotten",
    paper="Maini et al., NeurIPS 2022",
    signals={"correct": "correct_second_split", "first_split": "correct_first_split"},
    flag=learned_at_switch,
    variants={"learned": {"learned_only": True}},
)
def ssft(
    correct: Shaped[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    first_split: Shaped[np.ndarray, "first_epochs samples"] | None = None,
    learned_only: bool = False,
) -> Float64[np.ndarray, " samples"]:
    """Second-split forgetting time: the epoch, counted from 1, from which a sample is always wrong.

    Low is hard: once the network trains on other samples, it forgets mislabeled samples first,
    since nothing in the other half supports them. Rare samples are forgotten later, common ones
    never.

    Args:
        correct: Signal ``correct_second_split``, one row per epoch on the half without the sample.
        seen: Which samples were evaluated in which epoch; all, if left out.
        first_split: Signal ``correct_first_split``, one row per epoch on the sample's own half.
        learned_only: Whether to leave out samples that were not learned by the end of the first
            split (``learned_at_switch``), which otherwise look like samples forgotten at once.

    Returns:
        One epoch per sample: 1 if never correct, else two more than the 0-based epoch of the last
        correct answer. It is the number of epochs plus one if correct when last seen (never
        forgotten), even if that was before the last epoch; NaN where never seen. Different networks
        score the two halves: compare ranks within a half.

    Raises:
        ValueError: If the arrays disagree in shape or hold other values than 0 and 1, or
            ``learned_only`` lacks ``first_split``.

    Example:
        >>> correct = np.array([[True, False, True], [False, False, True]])
        >>> ssft(correct).tolist()
        [2.0, 1.0, 3.0]
        >>> ssft(correct, first_split=np.array([[True, False, True]]), learned_only=True).tolist()
        [2.0, nan, 3.0]

    References:
        Maini et al., "Characterizing Datapoints via Second-Split Forgetting", NeurIPS 2022. Agrees
        with pratyushmaini/ssft, get_first_epoch_where_we_forget_forever; that code evaluates in
        training mode and stops early.
    """
    correct, seen = answers(correct, seen)
    last_correct = last_seen(seen & correct)
    forgotten = last_correct + 2.0
    forgotten[last_correct == last_seen(seen)] = len(correct) + 1
    kept = seen.any(axis=0)
    if learned_only:
        if first_split is None or first_split.shape[1:] != correct.shape[1:]:
            got = "none" if first_split is None else first_split.shape
            raise ValueError(
                f"learned_only: expected first_split with {correct.shape[1]} samples; got {got}"
            )
        kept = kept & learned_at_switch(first_split)
    return np.where(kept, forgotten, np.nan)


@checked_axes
def seed_fsrt(first_split: Shaped[np.ndarray, "epochs samples"]) -> Float64[np.ndarray, " samples"]:
    """Last epoch, counted from 0, at which a sample turned from wrong to correct; -1 for none.

    One of three columns of Natifick/Unsupervisely-Hard, calculate_metrics.ipynb, kept only for
    comparison with its table. Its -1 stands both for always right and for always wrong, and a turn
    between epochs 0 and 1 is ignored. The metric is ``fslt``.

    Args:
        first_split: Whether the sample was correct on the first split, one row per epoch.

    Example:
        >>> seed_fsrt(np.array([[False, False], [True, False], [False, False], [True, False]]))
        array([ 3., -1.])
    """
    return _last_turn(~answers(first_split)[0])


@checked_axes
def seed_ssft(correct: Shaped[np.ndarray, "epochs samples"]) -> Float64[np.ndarray, " samples"]:
    """Last epoch, counted from 0, at which a sample turned from correct to wrong; -1 for none.

    A column like ``seed_fsrt``. It includes samples that are learned again, so it is not the time
    from which a sample stays forgotten. The metric is ``ssft``.

    Args:
        correct: Whether the sample was correct while training on the second split, one row per
            epoch.

    Example:
        >>> seed_ssft(np.array([[True, True], [False, True], [True, True], [False, True]]))
        array([ 3., -1.])
    """
    return _last_turn(answers(correct)[0])


@checked_axes
def seed_changes(
    first_split: Shaped[np.ndarray, "first_epochs samples"],
    correct: Shaped[np.ndarray, "second_epochs samples"],
) -> Float64[np.ndarray, " samples"]:
    """Number of times a sample turned from correct to wrong, over both stages of training.

    A column like ``seed_fsrt``. A sample that is never learned counts 0. The metric is
    ``forgetting_events``.

    Args:
        first_split: Whether the sample was correct on the first split, one row per epoch.
        correct: Whether the sample was correct while training on the second split, one row per
            epoch.

    Example:
        >>> stage = np.array([[True], [False], [True], [False]])
        >>> seed_changes(stage, stage)
        array([2.])
    """
    stages = (answers(stage)[0] for stage in (first_split, correct))
    return sum((_turns(stage).sum(axis=0) for stage in stages), np.zeros(correct.shape[1]))


def _turns(correct: Bool[np.ndarray, "epochs samples"]) -> Bool[np.ndarray, "turns samples"]:
    """Whether a sample turns from correct to wrong, into epoch 2 and each later one."""
    return correct[1:-1] & ~correct[2:]


def _last_turn(correct: Bool[np.ndarray, "epochs samples"]) -> Float64[np.ndarray, " samples"]:
    turns = _turns(correct)
    if not len(turns):
        return np.full(correct.shape[1], -1.0)
    last = last_seen(turns)
    return np.where(last < 0, -1.0, last + 2.0)
