"""An experiment file plus ``key=value`` overrides, checked, as a ``SweepSpec``."""

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, SequenceNode

from hardness.dynamics import Recording
from hardness.metrics import METRICS
from hardness.options import DatasetOptions, ModelOptions
from hardness.plan import KINDS, Planting
from hardness.stream_names import PURPOSES, check_purposes
from hardness.training import REGIMENS
from hardness.training.passes import schedule
from sweep.mistake import Mistake
from sweep.plugins import Plugin
from sweep.spec import (
    AdaptiveSeeds,
    Arm,
    Keep,
    Objective,
    Parameter,
    RegimenSpec,
    Resources,
    SweepSpec,
    offered,
)

T = TypeVar("T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_COUNT_OR_RANGE = re.compile(r"(?:(\d{1,18}):)?(\d{1,18})")
_MOST_SEEDS = 100_000
_DEEPEST = 20
# Characters of a line that tells a mistake; a list of all metrics fits.
_LONGEST = 4000
# Of a file, and of what its aliases stand for, each use counted: ten lines can mean billions.
_MOST_CHARACTERS = 1 << 18
_MOST_VALUES = 100_000
# What a sweep's own run keeps beside the file.
_KEPT = ("dataset_digest", "dataset_size", "arms")
_RESERVED = ("parameters", "metric")
_GOALS: dict[str, Literal["maximize", "minimize"]] = {
    "val_accuracy": "maximize",
    "val_accuracy_top5": "maximize",
    "val_loss": "minimize",
    "train_accuracy": "maximize",
    "train_loss": "minimize",
}
# Pydantic's kinds of error in the words of the documentation.
_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "keys and values",
    "dataclass_type": "keys and values",
}


class ExperimentError(Mistake, ValueError):
    """Something in an experiment file or an override: where, what was expected, what came."""

    def __init__(self, text: str) -> None:
        line = " ".join(text.split())
        super().__init__(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Split:
    split: float

    def __post_init__(self) -> None:
        if not 0 < self.split < 1:
            raise ValueError(f"split: expected a share between 0 and 1; got {self.split}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """The keys of an experiment file; the sections are checked one by one."""

    name: str
    dataset: dict[str, Any]
    regimens: dict[str, Any]
    plant: Any = None
    validation: Any = None
    model: dict[str, Any] | None = None
    method: Literal["grid", "random", "bayes"] = "grid"
    max_configurations: int | None = None
    search_seed: int = 0
    seeds: Any = 5
    vary: Any = "all"
    metrics: Any = "all"
    score_epochs: tuple[int, ...] | None = None
    keep: dict[str, Any] | None = None
    plugins: list[str] = field(default_factory=list)
    resources: dict[str, Any] | None = None
    storage_path: str = "sweeps"
    tracking_uri: str | None = None
    artifacts: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                "name: expected up to 100 letters, digits, '.', '_' and '-', a letter or digit "
                f"first; got {_shown(self.name)}"
            )
        if not self.regimens:
            raise ValueError(f"regimens: expected at least one of {', '.join(REGIMENS)}; got none")
        if self.max_configurations is not None and self.max_configurations < 1:
            raise ValueError(
                f"max_configurations: expected at least 1; got {self.max_configurations}"
            )
        if self.search_seed < 0:
            raise ValueError(f"search_seed: expected 0 or more; got {self.search_seed}")
        if self.tracking_uri == "":
            raise ValueError("tracking_uri: expected sqlite:/// or http(s)://; got ''")


def read(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a file and put overrides such as ``seeds=0:8`` into it, still unchecked.

    ``base: other.yaml`` starts from another file, beside this one: sections are joined key by key,
    lists and values replaced, and a key that is left empty here is as if it were in neither.

    Raises:
        ExperimentError: If there is no such file, it is not YAML, or an override has no ``=``.
    """
    content = _with_bases(path, ())
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ExperimentError(f"expected key=value, such as seeds=0:8; got {override!r}")
        try:
            value = _yaml(text)
        except ValueError as error:
            raise ExperimentError(
                f"{_shown(override)}: expected YAML after '='; {error}"
            ) from error
        _put(content, _segments(key), value, _shown(override))
    content["plugins"] = _absolute_plugins(content.get("plugins"), path)
    known = ["base", *(f.name for f in fields(_File))]
    _refuse_unknown_names([k for k in _KEPT if k in content], known, str(path), "")
    return content


def _with_bases(path: Path, followers: tuple[Path, ...]) -> dict[str, Any]:
    """One file's keys on top of those of the files that it starts from."""
    try:
        content = _yaml(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ExperimentError(f"{path}: expected an experiment file; there is none") from error
    except UnicodeDecodeError as error:
        raise ExperimentError(f"{path}: expected a text file; got other bytes") from error
    except OSError as error:
        raise ExperimentError(
            f"{path}: expected an experiment file that can be read; got: {error.strerror}"
        ) from error
    except ValueError as error:
        raise ExperimentError(f"{path}: expected YAML; {error}") from error
    if not isinstance(content, dict):
        raise ExperimentError(f"{path}: expected keys and values; got {_shown(content)}")
    base = content.pop("base", None)
    if "plugins" in content:
        content["plugins"] = _absolute_plugins(content["plugins"], path)
    if base is None:
        return content
    if not isinstance(base, str):
        raise ExperimentError(f"{path}: base: expected a file; got {_shown(base)}")
    started = path.parent / _expanded(base, f"{path}: base")
    if started.resolve() in (resolved := (*followers, path.resolve())):
        raise ExperimentError(f"{path}: base: expected files that start somewhere; got a circle")
    return _joined(_with_bases(started, resolved), content)


def _joined(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    joined = {key: value for key, value in base.items() if key not in own or own[key] is not None}
    for key, value in own.items():
        under = base.get(key)
        if isinstance(value, Mapping) and isinstance(under, Mapping):
            joined[key] = _joined(under, value)
        elif value is not None or key not in base:
            joined[key] = value
    return joined


def check(content: Mapping[str, Any], source: str) -> SweepSpec:
    """Turn the content of an experiment file into a ``SweepSpec``.

    Plugins are loaded first, so that their metrics have names.

    Args:
        content: As ``read`` returns it, or as a sweep's own run keeps it.
        source: File name that errors begin with.

    Raises:
        ExperimentError: One line: file, key, what was expected, what came, known keys.
    """
    digest, size, arms = _kept(content, source)
    content = {k: v for k, v in content.items() if k not in _KEPT}
    _refuse_strange(content, source, ())
    file = _section(_File, content, source, "")
    dataset = _placed(
        _section(DatasetOptions, file.dataset, source, "dataset"), f"{source}: dataset"
    )
    model = _section(ModelOptions, file.model, source, "model")
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
        keep=_section(Keep, file.keep, source, "keep"),
        plugins=plugins,
        resources=_section(Resources, file.resources, source, "resources"),
        storage_path=_storage(file.storage_path, source),
        tracking_uri=file.tracking_uri,
        artifacts=_artifacts(file, source),
        dataset_digest=digest,
        dataset_size=size,
        arms=arms,
    )


def _kept(
    content: Mapping[str, Any], source: str
) -> tuple[str | None, tuple[int, ...] | None, tuple[Arm, ...]]:
    """What a sweep's own run keeps beside the file: digest and size of the dataset, arms."""
    digest, size, arms = (content.get(key) for key in _KEPT)
    try:
        found = tuple(options(Arm, arm) for arm in arms or ())
        whole = all(map(_is_whole, size or ()))
    except (ValidationError, TypeError) as error:
        told = " ".join(str(error).split())[:200]
        raise ExperimentError(f"{source}: expected what a sweep keeps; got {told}") from error
    if not whole or not isinstance(digest, str | None):
        raise ExperimentError(f"{source}: expected the dataset of a sweep; got {_shown(digest)}")
    return digest, tuple(size) if size else None, found


def options(kind: type[T], plain: Mapping[str, Any]) -> T:
    """Build an options dataclass from plain values, types and ranges checked.

    Raises:
        pydantic.ValidationError: If a value does not fit.
    """
    # mypy takes a class of dataclasses for unhashable.
    return _adapter(kind).validate_json(json.dumps(plain), strict=True)  # type: ignore[arg-type]


def with_parameters(
    regimen: str, base: Mapping[str, Any], model: ModelOptions, values: Mapping[str, Any]
) -> tuple[Any, ModelOptions]:
    """A regimen's options and model with searched values put in place.

    Args:
        regimen: Key of ``REGIMENS``.
        base: The regimen's fixed options.
        model: The sweep's model.
        values: Dotted key to value; keys that begin with ``model.`` belong to the model.

    Raises:
        ExperimentError: Naming the key that does not fit.
    """
    plain = json.loads(json.dumps(base))
    network = {f.name: getattr(model, f.name) for f in fields(model)}
    for key, value in values.items():
        section, _, rest = key.partition(".")
        if key == "model":
            raise ExperimentError("expected a key of the model, such as model.width; got model")
        if section == "model":
            network[rest] = value
        else:
            _put(plain, key.split("."), value, key)
    where = f"regimens.{regimen}"
    checked = _section(REGIMENS[regimen].options, plain, where, "")
    return checked, _section(ModelOptions, network, where, "model")


def objectives(regimen: str) -> dict[str, Literal["maximize", "minimize"]]:
    """Summary numbers that a search may optimise, each with its natural goal.

    Training without labels is not to be chosen by labels either, so no accuracy there.
    """
    labels = REGIMENS[regimen].labels
    return {k: goal for k, goal in _GOALS.items() if labels or "accuracy" not in k}


def seeds(value: Any, where: str) -> tuple[int, ...]:
    """Seeds from ``10``, ``[0, 1, 2]`` or ``"0:10"``.

    Args:
        value: As it was written.
        where: What errors begin with.

    Raises:
        ExperimentError: If there are none, or one twice, or a negative one.
    """
    start, got = f"{where}: expected", f"got {_shown(value)}"
    text = str(value) if _is_whole(value) else value
    numbers: Sequence[int]
    if isinstance(text, str) and (found := _COUNT_OR_RANGE.fullmatch(text)):
        numbers = range(int(found[1] or 0), int(found[2]))
    elif isinstance(value, list) and all(map(_is_whole, value)):
        numbers = value
    else:
        raise ExperimentError(
            f"{start} a count, a list such as [0, 1, 2] or a range such as 0:10; {got}"
        )
    if not numbers:
        raise ExperimentError(f"{start} at least one seed; {got}")
    if len(numbers) > _MOST_SEEDS:
        raise ExperimentError(f"{start} at most {_MOST_SEEDS} seeds; {got}")
    if min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise ExperimentError(f"{start} different seeds of 0 or more; {got}")
    return tuple(numbers)


def _adaptive(file: _File, source: str) -> AdaptiveSeeds | None:
    """Seeds that are added until a metric is reliable; None for a number that is fixed."""
    if not isinstance(file.seeds, Mapping):
        return None
    found = _section(AdaptiveSeeds, file.seeds, source, "seeds")
    if file.method == "bayes":
        raise ExperimentError(
            f"{source}: seeds: expected a count, a list or a range, since method is bayes, which "
            "compares means over the same seeds; got min, max and until"
        )
    key, where = found.until.metric, "seeds.until.metric"
    of_runs = [name for name, metric in METRICS.items() if metric.scope == "run"]
    _refuse_metric(key, of_runs, file.regimens, source, where)
    if key not in of_runs:
        why = "the images" if METRICS[key].scope == "pixels" else "several runs at once"
        raise ExperimentError(
            f"{source}: {where}: expected a metric of single runs, which seeds change; got "
            f"{key!r}, which is computed from {why}"
        )
    return found


def _score_epochs(
    epochs: tuple[int, ...] | None,
    regimens: Mapping[str, RegimenSpec],
    model: ModelOptions,
    source: str,
) -> tuple[int, ...] | None:
    """Epochs of the scoring passes, which every run of a regimen that has passes must have."""
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
    """Of all runs that a regimen's search may propose."""

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
    _refuse_unknown_names({name}, REGIMENS, source, "regimens")
    section = _keys(section, source, where)
    kind = REGIMENS[name].options
    _refuse_unknown_names(section, (*(f.name for f in fields(kind)), *_RESERVED), source, where)
    base = {k: v for k, v in section.items() if k not in _RESERVED}
    _section(kind, base, source, where)
    parameters = {}
    for key, content in _keys(section.get("parameters"), source, f"{where}.parameters").items():
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
            f"got {_shown(content)}"
        )
    nested = [k for k, v in content.items() if isinstance(v, Mapping)]
    if nested:
        key = f"{where.partition('.parameters.')[2]}.{nested[0]}"
        raise ExperimentError(f"{source}: {where}: expected one dotted key, such as '{key}: ...'")
    parameter = _section(Parameter, content, source, where)
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
    """Refuse a parameter that is no option, or one of whose values the option refuses."""
    for value in parameter.extremes:
        try:
            with_parameters(regimen, base, model, {key: value})
        except ExperimentError as error:
            text = str(error).removeprefix(f"regimens.{regimen}: ").removeprefix(f"{key}: ")
            if parameter.values is None and _EXPECTED["int_type"] in text:
                text += "; with distribution: int_uniform a search draws whole numbers"
            raise ExperimentError(
                f"{source}: regimens.{regimen}.parameters.{key}: {text}"
            ) from error


def _objective(regimen: str, section: Any, source: str, where: str) -> Objective:
    known = objectives(regimen)
    plain = {"name": REGIMENS[regimen].objective, **_keys(section, source, where)}
    plain.setdefault("goal", known.get(str(plain["name"]), "minimize"))
    objective = _section(Objective, plain, source, where)
    if objective.name not in known:
        raise ExperimentError(
            f"{source}: {where}.name: unknown objective {objective.name!r}; "
            f"known: {', '.join(known)}"
        )
    return objective


def _section(kind: type[T], content: Any, source: str, where: str) -> T:
    """Check one section against its dataclass; nothing stands for an empty one."""
    content = _keys(content, source, where)
    _refuse_unknown(kind, content, source, where)
    try:
        return options(kind, content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = (*filter(None, [where]), *first["loc"])
        raise ExperimentError(f"{source}: {_told(first, place)}") from error


def _told(error: Mapping[str, Any], place: Sequence[str | int]) -> str:
    """One of pydantic's errors in our words."""
    got = f"got {_shown(error['input'])}"
    if error["type"] == "missing" and isinstance(place[-1], str):
        return f"missing key {place[-1]!r}{_inside(place[:-1])}"
    if error["type"] == "missing":
        place, message = place[:-1], f"expected more items; {got}"
    elif error["type"] == "too_long":
        message = f"expected at most {error['ctx']['max_length']} items; {got}"
    elif error["type"] == "value_error":
        message = str(error["ctx"]["error"])
        key, colon, rest = message.partition(": ")
        if colon and key in error["input"]:
            place, message = (*place, key), rest
    elif error["type"] == "literal_error":
        message = f"expected {error['ctx']['expected']}; {got}"
    elif place[-1:] == ("bool",):
        place, message = place[:-1], f"expected true, false or text; {got}"
    elif place[-1:] == ("str",):
        place, message = place[:-1], f"expected text or a whole number; {got}"
    elif error["type"] in _EXPECTED:
        message = f"expected {_EXPECTED[error['type']]}; {got}"
    else:
        message = f"{error['msg']}; {got}"
    return f"{'.'.join(map(str, place))}: {message}" if place else message


def _keys(content: Any, source: str, where: str) -> Mapping[str, Any]:
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        prefix = f"{source}: {where}" if where else source
        raise ExperimentError(f"{prefix}: expected keys and values; got {_shown(content)}")
    return content


def _refuse_unknown(kind: Any, content: Mapping[str, Any], source: str, where: str) -> None:
    known = {f.name: f.type for f in fields(kind)}
    _refuse_unknown_names(content, known, source, where)
    for key, value in content.items():
        inner = _dataclass_in(known[key])
        if inner is not None and isinstance(value, Mapping):
            _refuse_unknown(inner, value, source, f"{where}.{key}" if where else key)


def _refuse_unknown_names(
    names: Iterable[str], known: Iterable[str], source: str, where: str
) -> None:
    known = sorted(known)
    for name in names:
        if name not in known:
            raise ExperimentError(
                f"{source}: unknown key {name!r}{_inside(filter(None, [where]))}; "
                f"known: {', '.join(known)}"
            )


def _inside(place: Iterable[str | int]) -> str:
    dotted = ".".join(map(str, place))
    return f" in {dotted!r}" if dotted else ""


def _refuse_strange(value: Any, source: str, path: tuple[str, ...]) -> None:
    """Let pass what JSON can hold: text, finite numbers, true, false, nothing, lists, keys."""
    where = ": ".join([source, ".".join(path)]) if path else source
    if len(path) > _DEEPEST:
        raise ExperimentError(
            f"{source}: {path[0]}: expected at most {_DEEPEST} levels of keys; got more"
        )
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str) or not _is_text(key):
                raise ExperimentError(f"{where}: expected text for a key; got {_shown(key)}")
            _refuse_strange(inner, source, (*path, key))
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            _refuse_strange(inner, source, (*path, str(i)))
    elif strange := _strange(value):
        raise ExperimentError(f"{where}: expected {strange}")


def _strange(value: Any) -> str:
    """What was expected in place of a value that JSON cannot hold, and what came; else nothing."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"a finite number; got {value}"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "a number of at most 18 digits; got a longer one"
    if isinstance(value, str) and not _is_text(value):
        return f"text; got {_shown(value)}, which holds what is no character"
    if value is None or isinstance(value, str | int | float):
        return ""
    return (
        f"text, a number, true or false; got {type(value).__name__} {_shown(str(value))}, which "
        "quotes would make text"
    )


def _dataclass_in(annotation: Any) -> Any:
    found = (annotation, *get_args(annotation))
    return next((c for c in found if isinstance(c, type) and is_dataclass(c)), None)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _placed(dataset: DatasetOptions, where: str) -> DatasetOptions:
    """A dataset with its places made absolute."""
    if dataset.root is not None:
        dataset = dataclasses.replace(dataset, root=_folder(dataset.root, f"{where}.root"))
    if isinstance(dataset.cache, str):
        dataset = dataclasses.replace(dataset, cache=_folder(dataset.cache, f"{where}.cache"))
    return dataset


def _plant(value: Any, source: str) -> Planting | None:
    """What to plant; nothing where the key is left empty."""
    content = _keys(value, source, "plant")
    if not content:
        return None
    for kind in content:
        if kind in KINDS and content[kind] is None:
            raise ExperimentError(f"{source}: plant.{kind}: expected keys and values; got nothing")
    plan = _section(Planting, content, source, "plant")
    if plan.ood_far is None:
        return plan
    far = _placed(plan.ood_far.dataset, f"{source}: plant.ood_far.dataset")
    return dataclasses.replace(plan, ood_far=dataclasses.replace(plan.ood_far, dataset=far))


def _validation(value: Any, source: str) -> Literal["test"] | float | None:
    if value is None or value == "test":
        return value
    if not isinstance(value, Mapping):
        raise ExperimentError(
            f"{source}: validation: expected test or {{split: 0.1}}; got {_shown(value)}"
        )
    return _section(_Split, value, source, "validation").split


def _names(value: Any, key: str, source: str) -> tuple[str, ...] | None:
    """Names from one or a list of them, none twice; None for ``all``."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ExperimentError(
            f"{source}: {key}: expected all or a list of names; got {_shown(value)}"
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
    """Refuse a metric that is none, or that no regimen records the signals of."""
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


def _artifacts(file: _File, source: str) -> str | None:
    """Where the files of runs lie, if the sweep says so and its tracker leaves it the choice."""
    if file.artifacts is None:
        return None
    if (file.tracking_uri or "").startswith("http"):
        raise ExperimentError(
            f"{source}: artifacts: expected none with an MLflow server, which keeps them itself "
            "(--artifacts-destination)"
        )
    if not file.artifacts:
        raise ExperimentError(f"{source}: artifacts: expected a folder or an address; got ''")
    # It loads fsspec, which few sweeps need.
    from sweep.artifacts import place  # noqa: PLC0415

    try:
        return place(file.artifacts)
    except (ValueError, RuntimeError) as error:
        raise ExperimentError(f"{source}: artifacts: {error}") from error


def _folder(value: str, where: str) -> str:
    if not value:
        raise ExperimentError(f"{where}: expected a folder; got {value!r}")
    return str(_expanded(value, where).absolute())


def _expanded(value: str, where: str) -> Path:
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise ExperimentError(f"{where}: expected a path; got {value!r}: {error}") from error


def _absolute_plugins(value: Any, path: Path) -> Any:
    if not (isinstance(value, list) and all(isinstance(p, str) for p in value)):
        return [] if value is None else value
    return [str((path.parent / _expanded(p, f"{path}: plugins")).absolute()) for p in value]


def _segments(key: str) -> list[str]:
    """Split a dotted key; below ``parameters`` a searched key is one segment."""
    parts = key.split(".")
    if "parameters" not in parts:
        return parts
    at = parts.index("parameters") + 1
    inner = parts[at:]
    if len(inner) > 1 and inner[-1] in {f.name for f in fields(Parameter)}:
        return [*parts[:at], ".".join(inner[:-1]), inner[-1]]
    return [*parts[:at], ".".join(inner)] if inner else parts


def _put(content: dict[str, Any], segments: Sequence[str], value: Any, source: str) -> None:
    *path, last = segments
    for depth, segment in enumerate(path, start=1):
        inner = {} if content.get(segment) is None else content[segment]
        if not isinstance(inner, dict):
            place = ".".join(path[:depth])
            raise ExperimentError(f"{source}: expected keys in {place!r}; got {_shown(inner)}")
        # A copy, since a YAML alias may stand for the same keys elsewhere.
        inner = {**inner}
        content[segment] = inner
        content = inner
    content[last] = value


def _yaml(text: str) -> Any:
    """Read YAML 1.2.

    Raises:
        ValueError: Naming the line, if it is not YAML, or more of it than anybody writes.
    """
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"it has {len(text)} characters, of at most {_MOST_CHARACTERS}")
    try:
        values = _values(YAML(typ="safe", pure=True).compose(text), {})
        if values > _MOST_VALUES:
            raise ValueError(f"it holds more than {_MOST_VALUES} values, aliases written out")
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = f"line {mark.line + 1}: " if mark else ""
        problem = error.problem or ""
        context = f"{error.context} " if problem.startswith("but ") else ""
        raise ValueError(f"{line}{context}{problem[:200]}") from error
    except YAMLError as error:
        raise ValueError(str(error).partition("\n")[0]) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (LookupError, TypeError, OverflowError, AttributeError) as error:
        # Of tags, keys and escapes that mean nothing.
        raise ValueError(f"it holds a value that is none: {error}") from error


def _values(node: Any, known: dict[int, int]) -> int:
    """How many values a node stands for, with every alias and every merge written out.

    Args:
        node: As composed, not constructed.
        known: Of the nodes met before; 0 while one is looked into.

    Raises:
        ValueError: If an alias stands inside of what it stands for.
    """
    if not isinstance(node, SequenceNode | MappingNode):
        return 1
    if id(node) not in known:
        known[id(node)] = 0
        pairs = isinstance(node, MappingNode)
        inner = [one for pair in node.value for one in pair] if pairs else node.value
        known[id(node)] = 1 + sum(_values(one, known) for one in inner)
    if not known[id(node)]:
        raise ValueError(
            f"line {node.start_mark.line + 1}: an alias stands inside of what it stands for"
        )
    return known[id(node)]


def _is_text(value: str) -> bool:
    """Whether it has neither null characters nor halves of characters, which no file name has."""
    return "\0" not in value and not any("\ud800" <= one <= "\udfff" for one in value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    try:
        text = str(value).lower() if isinstance(value, bool) else repr(value)
    except ValueError:  # of digits that Python does not write out
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004
