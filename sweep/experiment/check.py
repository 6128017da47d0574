"""Checks the content of an experiment file and turns it into a ``SweepSpec``."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from hardness.data.options import DatasetOptions
from hardness.dynamics.record import Recording
from hardness.metrics.registry import METRICS
from hardness.models.options import ModelOptions
from hardness.planting.options import KINDS, Planting
from hardness.seeding import PURPOSES, check_purposes
from hardness.training import REGIMENS
from hardness.training.passes import schedule
from sweep.experiment import addresses
from sweep.experiment.needs import Keep, offered
from sweep.experiment.plugins import Plugin
from sweep.experiment.runs import Proposal
from sweep.experiment.sections import (
    EXPECTED,
    ExperimentError,
    checked,
    expanded,
    mapping,
    refuse_unknown,
    shown,
    with_parameters,
)
from sweep.experiment.seed_list import is_whole, seeds
from sweep.experiment.spec import (
    AdaptiveSeeds,
    Objective,
    Parameter,
    RegimenSpec,
    Resources,
    SweepSpec,
)
from sweep.experiment.yaml_file import KEPT, File

_DEEPEST = 20
_RESERVED = ("parameters", "metric")
_GOALS: dict[str, Literal["maximize", "minimize"]] = {
    "val_accuracy": "maximize",
    "val_accuracy_top5": "maximize",
    "val_loss": "minimize",
    "train_accuracy": "maximize",
    "train_loss": "minimize",
}


def check(content: Mapping[str, Any], source: str) -> SweepSpec:
    """Turn the content of an experiment file into a ``SweepSpec``.

    Plugins are loaded first, so that the file may name their metrics.

    Args:
        content: Content from ``read``, or from the store's copy of the resolved file.
        source: File name with which errors begin.

    Raises:
        ExperimentError: If the content is not valid.
    """
    _refuse_strange(content, source, ())
    digest, size, arms = _kept(content, source)
    file = checked(File, {k: v for k, v in content.items() if k not in KEPT}, source, "")
    dataset = _placed(
        checked(DatasetOptions, file.dataset, source, "dataset"), f"{source}: dataset"
    )
    model = checked(ModelOptions, file.model, source, "model")
    plugins = tuple(Plugin.read(Path(p), f"{source}: plugins") for p in file.plugins)
    for plugin in plugins:
        plugin.load()
    regimens = {
        name: _regimen(name, section, model, file.method, source)
        for name, section in file.regimens.items()
    }
    adaptive = _adaptive(file, source)
    return SweepSpec(
        name=file.name,
        dataset=dataset,
        plant=_plant(file.plant, source),
        validation=_validation(file.validation, source),
        model=model,
        regimens=regimens,
        method=file.method,
        max_configurations=file.max_configurations,
        search_seed=file.search_seed,
        seeds=seeds(adaptive.max if adaptive else file.seeds, f"{source}: seeds"),
        adaptive=adaptive,
        vary=_vary(file.vary, source),
        metrics=_metrics(file.metrics, file.regimens, source),
        score_epochs=_score_epochs(file.score_epochs, regimens, model, source),
        keep=checked(Keep, file.keep, source, "keep"),
        plugins=plugins,
        resources=checked(Resources, file.resources, source, "resources"),
        storage_path=_storage(file.storage_path, source),
        tracking_uri=file.tracking_uri,
        artifacts=_artifacts(file, source),
        dataset_digest=digest,
        dataset_size=size,
        arms=arms,
    )


def _kept(
    content: Mapping[str, Any], source: str
) -> tuple[str | None, tuple[int, ...] | None, tuple[Proposal, ...]]:
    """Keys that only the store's copy of the file has: dataset digest, dataset size, arms."""
    digest, size, arms = (content.get(key) for key in KEPT)
    whole = isinstance(size, Sequence) and all(map(is_whole, size))
    if not isinstance(digest, str | None) or not (size is None or whole):
        raise ExperimentError(
            f"{source}: expected digest and size of a dataset; got {shown([digest, size])}"
        )
    if not isinstance(arms, list | None):
        raise ExperimentError(f"{source}: arms: expected a list; got {shown(arms)}")
    found = tuple(_arm(arm, source, f"arms.{at}") for at, arm in enumerate(arms or ()))
    return digest, tuple(size) if size else None, found


def _arm(plain: Any, source: str, where: str) -> Proposal:
    """A checked arm of a pruning sweep."""
    arm = checked(Proposal, plain, source, where)
    configuration = arm.configuration
    where = f"{where}.configuration"
    refuse_unknown([configuration.regimen], REGIMENS, source, where)
    kind = REGIMENS[configuration.regimen].options
    checked(kind, configuration.options, source, f"{where}.options")
    checked(ModelOptions, configuration.model, source, f"{where}.model")
    return arm


@dataclass(frozen=True, slots=True, kw_only=True)
class _Split:
    split: float

    def __post_init__(self) -> None:
        if not 0 < self.split < 1:
            raise ValueError(f"split: expected a share between 0 and 1; got {self.split}")


def _adaptive(file: File, source: str) -> AdaptiveSeeds | None:
    """Adaptive seeds; None if the number of seeds is fixed."""
    if not isinstance(file.seeds, Mapping):
        return None
    found = checked(AdaptiveSeeds, file.seeds, source, "seeds")
    if file.method == "bayes":
        raise ExperimentError(
            f"{source}: seeds: expected a count, a list or a range, since method: bayes compares "
            "means over the same seeds; got min, max and until"
        )
    key, where = found.until.metric, "seeds.until.metric"
    of_runs = [name for name, metric in METRICS.items() if metric.scope == "run"]
    _refuse_metric(key, of_runs, file.regimens, source, where)
    if key not in of_runs:
        why = "the images" if METRICS[key].scope == "pixels" else "several runs at once"
        raise ExperimentError(
            f"{source}: {where}: expected a metric of single runs, which depends on the seed; got "
            f"{key!r}, which is computed from {why}"
        )
    return found


def _score_epochs(
    epochs: tuple[int, ...] | None,
    regimens: Mapping[str, RegimenSpec],
    model: ModelOptions,
    source: str,
) -> tuple[int, ...] | None:
    """Epochs of the scoring passes, checked against the shortest run of each regimen."""
    if epochs is None:
        return None
    if not epochs:
        raise ExperimentError(f"{source}: score_epochs: expected at least one epoch; got none")
    for name, section in regimens.items():
        passes = REGIMENS[name].passes
        recording = Recording(passes=tuple(passes), score_epochs=epochs)
        try:
            schedule(passes, recording, _fewest_epochs(name, section, model))
        except ValueError as error:
            raise ExperimentError(f"{source}: regimens.{name}: {error}") from error
    return epochs


def _fewest_epochs(regimen: str, section: RegimenSpec, model: ModelOptions) -> int:
    """Epochs of the shortest run that a regimen's search may propose."""

    def length(values: Mapping[str, Any]) -> int:
        return with_parameters(regimen, section.options, model, values)[0].epochs

    shortest: dict[str, Any] = {}
    for key, parameter in section.parameters.items():
        by_length = {length({key: value}): value for value in parameter.extremes}
        if {*by_length} != {length({})}:
            shortest[key] = by_length[min(by_length)]
    return length(shortest)


def _regimen(name: str, section: Any, model: ModelOptions, method: str, source: str) -> RegimenSpec:
    where = f"regimens.{name}"
    refuse_unknown({name}, REGIMENS, source, "regimens")
    section = mapping(section, source, where)
    kind = REGIMENS[name].options
    refuse_unknown(section, (*(f.name for f in fields(kind)), *_RESERVED), source, where)
    base = {k: v for k, v in section.items() if k not in _RESERVED}
    checked(kind, base, source, where)
    parameters = {}
    for key, content in mapping(section.get("parameters"), source, f"{where}.parameters").items():
        parameters[key] = _parameter(content, method, source, f"{where}.parameters.{key}")
        _refuse_unfit(name, base, model, key, parameters[key], source)
    return RegimenSpec(
        options=base,
        parameters=parameters,
        metric=_objective(name, section.get("metric"), source, f"{where}.metric"),
    )


def _parameter(content: Any, method: str, source: str, where: str) -> Parameter:
    if not isinstance(content, Mapping):
        raise ExperimentError(
            f"{source}: {where}: expected {{values: [...]}} or {{min: ..., max: ...}}; "
            f"got {shown(content)}"
        )
    nested = [k for k, v in content.items() if isinstance(v, Mapping)]
    if nested:
        key = f"{where.partition('.parameters.')[2]}.{nested[0]}"
        raise ExperimentError(f"{source}: {where}: expected one dotted key, such as '{key}: ...'")
    parameter = checked(Parameter, content, source, where)
    if parameter.values is None and method == "grid":
        raise ExperimentError(
            f"{source}: {where}: expected values, since method is grid; got min and max. "
            "Give values, or method: random or bayes"
        )
    return parameter


def _refuse_unfit(
    regimen: str,
    base: Mapping[str, Any],
    model: ModelOptions,
    key: str,
    parameter: Parameter,
    source: str,
) -> None:
    """Refuse a parameter that is no option of the regimen, or that has an unfit value."""
    for value in parameter.extremes:
        try:
            with_parameters(regimen, base, model, {key: value})
        except ExperimentError as error:
            text = str(error).removeprefix(f"regimens.{regimen}: ").removeprefix(f"{key}: ")
            if parameter.values is None and EXPECTED["int_type"] in text:
                text += "; with distribution: int_uniform a search draws whole numbers"
            raise ExperimentError(
                f"{source}: regimens.{regimen}.parameters.{key}: {text}"
            ) from error


def objectives(regimen: str) -> dict[str, Literal["maximize", "minimize"]]:
    """Summary numbers that a search may optimise, each with its natural goal.

    Regimens without labels get no accuracy, since labels must not choose their configuration.
    """
    labels = REGIMENS[regimen].labels
    return {k: goal for k, goal in _GOALS.items() if labels or "accuracy" not in k}


def _objective(regimen: str, section: Any, source: str, where: str) -> Objective:
    known = objectives(regimen)
    plain = {"name": REGIMENS[regimen].objective, **mapping(section, source, where)}
    plain.setdefault("goal", known.get(str(plain["name"]), "minimize"))
    objective = checked(Objective, plain, source, where)
    if objective.name not in known:
        raise ExperimentError(
            f"{source}: {where}.name: unknown objective {objective.name!r}; "
            f"known: {', '.join(known)}"
        )
    return objective


def _placed(dataset: DatasetOptions, where: str) -> DatasetOptions:
    """A dataset's options with absolute folders."""
    if dataset.root is not None:
        dataset = dataclasses.replace(dataset, root=_folder(dataset.root, f"{where}.root"))
    if isinstance(dataset.cache, str):
        dataset = dataclasses.replace(dataset, cache=_folder(dataset.cache, f"{where}.cache"))
    return dataset


def _plant(value: Any, source: str) -> Planting | None:
    """Options of planted hardness; None if the key is empty."""
    content = mapping(value, source, "plant")
    if not content:
        return None
    for kind in content:
        if kind in KINDS and content[kind] is None:
            raise ExperimentError(f"{source}: plant.{kind}: expected keys and values; got nothing")
    plan = checked(Planting, content, source, "plant")
    if plan.ood_far is None:
        return plan
    far = _placed(plan.ood_far.dataset, f"{source}: plant.ood_far.dataset")
    return dataclasses.replace(plan, ood_far=dataclasses.replace(plan.ood_far, dataset=far))


def _validation(value: Any, source: str) -> Literal["test"] | float | None:
    if value is None or value == "test":
        return value
    if not isinstance(value, Mapping):
        raise ExperimentError(
            f"{source}: validation: expected test or {{split: 0.1}}; got {shown(value)}"
        )
    return checked(_Split, value, source, "validation").split


def _names(value: Any, key: str, source: str) -> tuple[str, ...] | None:
    """Different names from a name or a list of names; None for ``all``."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ExperimentError(
            f"{source}: {key}: expected all or a list of names; got {shown(value)}"
        )
    return None if "all" in names else tuple(dict.fromkeys(names))


def _vary(value: Any, source: str) -> tuple[str, ...]:
    names = _names(value, "vary", source) or PURPOSES
    try:
        check_purposes(names)
    except ValueError as error:
        raise ExperimentError(f"{source}: vary: {error}") from error
    return tuple(p for p in PURPOSES if p in names)


def _metrics(value: Any, regimens: Iterable[str], source: str) -> tuple[str, ...]:
    names = _names(value, "metrics", source)
    if names is None:
        return ("all",)
    for name in names:
        _refuse_metric(name, ("all", *METRICS), regimens, source, "metrics")
    return names


def _refuse_metric(
    name: str, known: Iterable[str], regimens: Iterable[str], source: str, where: str
) -> None:
    """Refuse an unknown metric, and one whose signals no regimen records."""
    if name not in METRICS:
        raise ExperimentError(
            f"{source}: {where}: unknown metric {name!r}; known: {', '.join(known)}"
        )
    needed = METRICS[name].signals
    if not any(offered(regimen).issuperset(needed) for regimen in regimens):
        raise ExperimentError(
            f"{source}: {where}: {name!r} needs {', '.join(needed)}; "
            f"expected a regimen that records it; got {', '.join(regimens)}"
        )


def _storage(value: str, source: str) -> str:
    if "://" in value:
        raise ExperimentError(
            f"{source}: storage_path: expected a folder, shared between nodes on a cluster; "
            f"got {value!r}"
        )
    return _folder(value, f"{source}: storage_path")


def _artifacts(file: File, source: str) -> str | None:
    """Address of the runs' files; None if left out. An MLflow server chooses it itself."""
    if file.artifacts is None:
        return None
    if (file.tracking_uri or "").startswith("http"):
        raise ExperimentError(
            f"{source}: artifacts: expected none with an MLflow server, which stores artifacts "
            "itself (--artifacts-destination); got one"
        )
    if not file.artifacts:
        raise ExperimentError(f"{source}: artifacts: expected a folder or an address; got ''")
    try:
        return addresses.place(file.artifacts)
    except (ValueError, RuntimeError) as error:
        raise ExperimentError(f"{source}: artifacts: {error}") from error


def _folder(value: str, where: str) -> str:
    if not value:
        raise ExperimentError(f"{where}: expected a folder; got {value!r}")
    return str(expanded(value, where).absolute())


def _refuse_strange(value: Any, source: str, path: tuple[str, ...]) -> None:
    """Refuse values that JSON cannot hold, such as dates and infinite numbers."""
    where = ": ".join([source, ".".join(path)]) if path else source
    if len(path) > _DEEPEST:
        raise ExperimentError(
            f"{source}: {path[0]}: expected at most {_DEEPEST} levels of keys; got more"
        )
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str) or not _is_text(key):
                raise ExperimentError(f"{where}: expected text for a key; got {shown(key)}")
            _refuse_strange(inner, source, (*path, key))
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            _refuse_strange(inner, source, (*path, str(i)))
    elif strange := _strange(value):
        raise ExperimentError(f"{where}: expected {strange}")


def _strange(value: Any) -> str:
    """The end of an error line about a value that JSON cannot hold; empty for other values."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"a finite number; got {value}"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "a number of at most 18 digits; got a longer one"
    if isinstance(value, str) and not _is_text(value):
        return f"text; got {shown(value)}, which holds an invalid character"
    if value is None or isinstance(value, str | int | float):
        return ""
    return (
        f"text, a number, true or false; got {type(value).__name__} {shown(str(value))}; put it "
        "in quotes to make it text"
    )


def _is_text(value: str) -> bool:
    """Whether a text has no null character and no half of a surrogate pair."""
    return "\0" not in value and not any("\ud800" <= one <= "\udfff" for one in value)
