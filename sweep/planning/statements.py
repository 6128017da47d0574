"""Lines that a reader must know before the numbers of a sweep."""

from collections.abc import Iterable

from hardness.comparison.enough_seeds import ERROR
from hardness.models.options import ModelOptions
from sweep.experiment.runs import Proposal
from sweep.experiment.sections import options
from sweep.experiment.spec import RunsSpec


def pretrained(proposals: Iterable[Proposal]) -> list[ModelOptions]:
    """The different models of these proposals that start from pretrained weights."""
    # A recorded run has no model.
    told = (p.configuration.model for p in proposals if p.configuration.model)
    models = (options(ModelOptions, model) for model in told)
    return [*dict.fromkeys(model for model in models if model.pretrained)]


def statements(spec: RunsSpec, proposals: Iterable[Proposal]) -> list[str]:
    """Lines on limits of the dataset's size, pretrained weights and adaptive seeds."""
    starts = [
        f"pretrained: {model.name} starts from torchvision's {model.pretrained}, which learned "
        "from ImageNet's labels; scores marked labels: none used these, but none of yours"
        for model in pretrained(proposals)
    ]
    return [*map(str, spec.needs.shortfalls), *starts, *_plan(spec)]


def _plan(spec: RunsSpec) -> list[str]:
    """A line on adaptive seeds, and one on the regimens that get no further seeds."""
    if spec.adaptive is None:
        return []
    until, plan = spec.adaptive.until, spec.adaptive.looks
    without = [regimen for regimen in spec.regimens if regimen not in spec.needs.adaptive]
    shown = ", ".join(map(str, plan))
    whole = (
        f"adaptive seeds: looks at {shown}, until the reliability of {until.metric} is surely "
        f"{until.reliability:g} or more: lower end of its {1 - ERROR / len(plan):.2%} interval, "
        "95 % over all looks"
    )
    some = f"{plan[0]} seeds for regimens that lack {until.metric}: {', '.join(without)}"
    return [whole, *([f"adaptive seeds: {some}"] if without else [])]
