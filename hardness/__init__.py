"""Per-sample hardness: record dynamics, score them, measure stability and agreement.

The names below load their modules when they are first used, so that ``import hardness`` is light.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hardness.agreement import ScoreSet
    from hardness.datasets import load as load_dataset
    from hardness.dynamics import Dynamics
    from hardness.metrics import METRICS, metric
    from hardness.recorder import Recorder
    from hardness.scoring import score_folder
    from hardness.truth import truth_table

__all__ = [
    "METRICS",
    "Dynamics",
    "Recorder",
    "ScoreSet",
    "__version__",
    "load_dataset",
    "metric",
    "score_folder",
    "truth_table",
]
__version__ = "0.1.0"  # pyproject.toml reads it from here

_PLACES = {
    "Dynamics": "hardness.dynamics:Dynamics",
    "METRICS": "hardness.metrics:METRICS",
    "Recorder": "hardness.recorder:Recorder",
    "ScoreSet": "hardness.agreement:ScoreSet",
    "load_dataset": "hardness.datasets:load",
    "metric": "hardness.metrics:metric",
    "score_folder": "hardness.scoring:score_folder",
    "truth_table": "hardness.truth:truth_table",
}

if not TYPE_CHECKING:  # a type checker would take any name for one that this function knows

    def __getattr__(name: str) -> object:
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return resolve_name(_PLACES[name])


def __dir__() -> list[str]:
    return __all__
