"""What one scoring pass costs, in epochs of the training that it scores."""

from functools import partial

from hardness.dynamics.record import Recording
from hardness.training import REGIMENS
from hardness.training.options import TrainOptions
from tests.benchmarks import setting
from tests.benchmarks.figures import Figure, ratio

SAMPLES = 1_000


def measure(pairs: int) -> list[Figure]:
    """One epoch with a pass at its end over the same epoch without it, less one."""
    dataset = setting.images(SAMPLES)
    figures = []
    for name, regimen in REGIMENS.items():
        options = regimen.options(train=TrainOptions(max_epochs=1, batch_size=128, lr=0.01))

        def epoch(pair, passes, regimen=regimen, options=options):
            recording = Recording(snapshots=(), passes=passes, score_epochs=(-1,))
            for _ in regimen.train(
                dataset, setting.MODEL, options, setting.streams(pair), recording=recording
            ):
                pass

        for made, scoring in regimen.passes.items():
            figures.append(
                ratio(
                    f"an epoch of {name} with the pass {made}: small_cnn, {SAMPLES:,} images",
                    f"{scoring.forwards} forward passes",
                    partial(epoch, passes=(made,)),
                    partial(epoch, passes=()),
                    pairs,
                )
            )
    return figures
