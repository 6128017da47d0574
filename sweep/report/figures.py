"""All figures of an aggregation, written as PNG files.

A figure without numbers is not drawn. Public functions such as ``stability_rows`` choose what a
figure shows, from tables to tables; the other functions only draw.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib import style
from matplotlib.figure import Figure

from hardness.files import atomic_write
from sweep.aggregation.aggregate import Aggregate
from sweep.aggregation.collected_scores import ConfigurationScores
from sweep.report.agreement_figures import (
    agreement_figure,
    agreement_matrix,
    own_agreement,
    truth_figure,
)
from sweep.report.image_figures import data_map_figure, images_figure, pictured
from sweep.report.stability_figures import (
    forecast_figure,
    forecast_rows,
    stability_figure,
    variance_figure,
    variance_rows,
)
from sweep.report.style import STYLE

if TYPE_CHECKING:
    from hardness.data.datasets import Dataset


def draw(
    result: Aggregate, best: Sequence[str], folder: Path, dataset: "Dataset | None"
) -> list[Path]:
    """Write the figures of an aggregation, each file completely or not at all.

    Figures of an earlier aggregation are removed, so that they are not taken for new ones.

    Args:
        result: The aggregation.
        best: Ids of the configurations to show: the best one of each regimen.
        folder: Folder for the PNG files.
        dataset: Dataset with the images; None leaves the image figures out.

    Returns:
        The files that were written, out of ``stability.png``, ``forecast.png``, ``agreement.png``,
        ``truth.png``, ``variance.png``, ``data_map.png``, and one ``images_<score key>.png`` for
        each score of ``pictured``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    by_id = {one.configuration.configuration_id: one for one in result.scores}
    chosen = [by_id[configuration_id] for configuration_id in best if configuration_id in by_id]
    with style.context(STYLE, after_reset=True):
        written = [save(figure, folder / f) for f, figure in _figures(result, chosen, dataset)]
    names = ("stability", "forecast", "agreement", "truth", "variance", "data_map")
    stale = {folder / f"{name}.png" for name in names}
    for path in (stale | {*folder.glob("images_*.png")}) - {*written}:
        path.unlink(missing_ok=True)
    return written


def _figures(
    result: Aggregate, best: Sequence[ConfigurationScores], dataset: "Dataset | None"
) -> Iterator[tuple[str, Figure]]:
    if figure := stability_figure(result.stability, best):
        yield "stability.png", figure
    ids = [one.configuration.configuration_id for one in best]
    if figure := forecast_figure(forecast_rows(result.stability, ids)):
        yield "forecast.png", figure
    matrix, families = agreement_matrix(result.agreement, own_agreement(result))
    if figure := agreement_figure(matrix, families, best):
        yield "agreement.png", figure
    if figure := truth_figure(result.truth):
        yield "truth.png", figure
    if figure := variance_figure(variance_rows(result.variance)):
        yield "variance.png", figure
    supervised = [one for one in best if one.configuration.regimen == "supervised"]
    if supervised and (figure := data_map_figure(result.samples, supervised[0])):
        yield "data_map.png", figure
    if dataset is None:
        return
    for score_key, ranks in pictured(result, best).items():
        mine = [one for one in best if score_key.endswith(f".{one.configuration.regimen}")]
        if figure := images_figure(score_key, ranks, dataset, mine):
            yield f"images_{score_key}.png", figure


def save(figure: Figure, path: Path) -> Path:
    """Write a figure, completely or not at all."""
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png")
    return path
