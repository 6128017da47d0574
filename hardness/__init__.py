"""Per-sample hardness: record dynamics, score them, measure stability and agreement.

Each name below loads its module when it is first used, so that ``import hardness`` is fast.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hardness.comparison.agreement_table import agreement
    from hardness.comparison.disjoint_runs import ScoreSet
    from hardness.comparison.stability import stability
    from hardness.comparison.truth import truth_table
    from hardness.data.datasets import load_dataset
    from hardness.dynamics.folder import Dynamics
    from hardness.dynamics.recorder import Recorder
    from hardness.metrics import METRICS, metric
    from hardness.scoring.runs import score_folder

__all__ = [
    "METRICS",
    "Dynamics",
    "Recorder",
    "ScoreSet",
    "__version__",
    "agreement",
    "load_dataset",
    "metric",
    "score_folder",
    "stability",
    "truth_table",
]
__version__ = "0.1.0"  # pyproject.toml reads it from here

_PLACES = {
    "Dynamics": "hardness.dynamics.folder:Dynamics",
    "METRICS": "hardness.metrics:METRICS",
    "Recorder": "hardness.dynamics.recorder:Recorder",
    "ScoreSet": "hardness.comparison.disjoint_runs:ScoreSet",
    "agreement": "hardness.comparison.agreement_table:agreement",
    "load_dataset": "hardness.data.datasets:load_dataset",
    "metric": "hardness.metrics:metric",
    "score_folder": "hardness.scoring.runs:score_folder",
    "stability": "hardness.comparison.stability:stability",
    "truth_table": "hardness.comparison.truth:truth_table",
}

if not TYPE_CHECKING:  # with this function, a type checker would accept any name

    def __getattr__(name: str) -> object:
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return resolve_name(_PLACES[name])


def __dir__() -> list[str]:
    return __all__
