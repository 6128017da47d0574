"""What a reader of a sweep's numbers has to know beforehand."""

from collections.abc import Iterable

from hardness.comparison.enough_seeds import ERROR
from hardness.models.options import ModelOptions
from sweep.experiment.runs import Proposal
from sweep.experiment.sections import options
from sweep.experiment.spec import RunsSpec


def pretrained(proposals: Iterable[Proposal]) -> list[ModelOptions]:
    """The models among these that start from pretrained weights, each once."""
    # A recorded run does not tell its model.
    told = (p.configuration.model for p in proposals if p.configuration.model)
    models = (options(ModelOptions, model) for model in told)
    return [*dict.fromkeys(model for model in models if model.pretrained)]


def statements(spec: RunsSpec, proposals: Iterable[Proposal]) -> list[str]:
    """What a reader of the sweep's numbers has to know before the first of them is there."""
    starts = [
        f"pretrained: {model.name} starts from torchvision's {model.pretrained}, which learned "
        "from ImageNet's labels; scores under labels: none have seen those"
        for model in pretrained(proposals)
    ]
    return [*map(str, spec.needs.shortfalls), *starts, *_plan(spec)]


def _plan(spec: RunsSpec) -> list[str]:
    """What adaptive seeds mean for this sweep, in a line, and for whom they do not hold."""
    if spec.adaptive is None:
        return []
    until, plan = spec.adaptive.until, spec.adaptive.looks
    without = [regimen for regimen in spec.regimens if regimen not in spec.needs.adaptive]
    shown = ", ".join(map(str, plan))
    whole = (
        f"adaptive seeds: looks at {shown}, until the reliability of {until.metric} is surely "
        f"{until.reliability:g} or more: low end of an interval at {1 - ERROR / len(plan):.2%}, "
        f"95 % over all looks"
    )
    some = f"no {until.metric}, so {plan[0]} seeds each: {', '.join(without)}"
    return [whole, *([f"adaptive seeds: {some}"] if without else [])]
