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

from pydantic import ConfigDict, TypeAdapter, ValidationError
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
from sweep.needs import Keep, offered
from sweep.plugins import Plugin
from sweep.spec import (
    AdaptiveSeeds,
    Objective,
    Parameter,
    Proposal,
    RegimenSpec,
    Resources,
    SweepSpec,
)

# Sections: plain values to checked dataclasses, and errors in our words

T = TypeVar("T")
# Characters of a line that tells a mistake; a list of all metrics fits.
_LONGEST = 4000
# Pydantic's kinds of error in the words of the documentation.
EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "keys and values",
    "dataclass_type": "keys and values",
}
# Pydantic's kind of error for a key that a dataclass does not have.
_UNKNOWN = "unexpected_keyword_argument"


class ExperimentError(Mistake, ValueError):
    """Something in an experiment file or an override: where, what was expected, what came."""

    def __init__(self, text: str) -> None:
        line = " ".join(text.split())
        super().__init__(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…")


def options(kind: type[T], plain: Mapping[str, Any]) -> T:
    """Build an options dataclass from plain values, with keys, types and ranges checked.

    Raises:
        pydantic.ValidationError: If a key is unknown or a value does not fit.
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
            put(plain, key.split("."), value, key)
    where = f"regimens.{regimen}"
    chosen = checked(REGIMENS[regimen].options, plain, where, "")
    return chosen, checked(ModelOptions, network, where, "model")


def checked(kind: type[T], content: Any, source: str, where: str) -> T:
    """Check one section against its dataclass; nothing stands for an empty one."""
    content = mapping(content, source, where)
    try:
        return options(kind, content)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        if unknown := [[*map(str, e["loc"])] for e in errors if e["type"] == _UNKNOWN]:
            *inside, key = min(unknown, key=len)
            refuse_unknown(
                [key], _keys_at(kind, inside), source, ".".join(filter(None, [where, *inside]))
            )
        first = errors[0]
        place = (*filter(None, [where]), *first["loc"])
        raise ExperimentError(f"{source}: {_told(first, place)}") from error


def mapping(content: Any, source: str, where: str) -> Mapping[str, Any]:
    """A section's keys and values; none where it is left empty."""
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        prefix = f"{source}: {where}" if where else source
        raise ExperimentError(f"{prefix}: expected keys and values; got {shown(content)}")
    return content


def refuse_unknown(names: Iterable[str], known: Iterable[str], source: str, where: str) -> None:
    """Refuse the first key of a section that is not known, and name those that are."""
    known = sorted(known)
    for name in names:
        if name not in known:
            raise ExperimentError(
                f"{source}: unknown key {name!r}{_inside(filter(None, [where]))}; "
                f"known: {', '.join(known)}"
            )


def _told(error: Mapping[str, Any], place: Sequence[str | int]) -> str:
    """One of pydantic's errors in our words."""
    got = f"got {shown(error['input'])}"
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
    elif error["type"] in EXPECTED:
        message = f"expected {EXPECTED[error['type']]}; {got}"
    else:
        message = f"{error['msg']}; {got}"
    return f"{'.'.join(map(str, place))}: {message}" if place else message


def _inside(place: Iterable[str | int]) -> str:
    dotted = ".".join(map(str, place))
    return f" in {dotted!r}" if dotted else ""


def _keys_at(kind: Any, inside: Iterable[str]) -> list[str]:
    """The keys of a section, or of one inside of it."""
    for key in inside:
        kind = _dataclass_in({f.name: f.type for f in fields(kind)}[key])
    return [f.name for f in fields(kind)]


def _dataclass_in(annotation: Any) -> Any:
    found = (annotation, *get_args(annotation))
    return next((c for c in found if isinstance(c, type) and is_dataclass(c)), None)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    # Pydantic takes no configuration for a dataclass alone, but for a type that it is part of.
    return TypeAdapter(kind | None, config=ConfigDict(extra="forbid"))


def put(content: dict[str, Any], segments: Sequence[str], value: Any, source: str) -> None:
    """Set the value of a key that may lie inside of other keys."""
    *path, last = segments
    for depth, segment in enumerate(path, start=1):
        inner = {} if content.get(segment) is None else content[segment]
        if not isinstance(inner, dict):
            place = ".".join(path[:depth])
            raise ExperimentError(f"{source}: expected keys in {place!r}; got {shown(inner)}")
        # A copy, since a YAML alias may stand for the same keys elsewhere.
        inner = {**inner}
        content[segment] = inner
        content = inner
    content[last] = value


def shown(value: object) -> str:
    """A value as errors quote it, cut where it is long."""
    if value is None:
        return "nothing"
    try:
        text = str(value).lower() if isinstance(value, bool) else repr(value)
    except ValueError:  # of digits that Python does not write out
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004


def expanded(value: str, where: str) -> Path:
    """A path whose ``~`` is the home folder."""
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise ExperimentError(f"{where}: expected a path; got {value!r}: {error}") from error


# Seeds

_COUNT_OR_RANGE = re.compile(r"(?:(\d{1,18}):)?(\d{1,18})")
_MOST_SEEDS = 100_000


def seeds(value: Any, where: str) -> tuple[int, ...]:
    """Seeds from ``10``, ``[0, 1, 2]`` or ``"0:10"``.

    Args:
        value: The value as written.
        where: The beginning of errors.

    Raises:
        ExperimentError: If there are none, or one twice, or a negative one.
    """
    start, got = f"{where}: expected", f"got {shown(value)}"
    text = str(value) if is_whole(value) else value
    numbers: Sequence[int]
    if isinstance(text, str) and (found := _COUNT_OR_RANGE.fullmatch(text)):
        numbers = range(int(found[1] or 0), int(found[2]))
    elif isinstance(value, list) and all(map(is_whole, value)):
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


def is_whole(value: object) -> bool:
    """Whether a value is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


# The file: YAML, the files that it starts from, overrides

# Characters of a file, and values in it with every alias written out: ten lines can mean billions.
_MOST_CHARACTERS = 1 << 18
_MOST_VALUES = 100_000
# What a sweep's own run keeps beside the file.
KEPT = ("dataset_digest", "dataset_size", "arms")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
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
                f"first; got {shown(self.name)}"
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

    ``base: other.yaml`` starts from another file, beside this one. Sections are joined key by key;
    lists and values are replaced. A key that is left empty here is left out.

    Raises:
        ExperimentError: If there is no such file, it is not YAML, or an override has no ``=``.
    """
    content = _with_bases(path, ())
    for override in overrides:
        key, value = _assignment(override)
        put(content, _segments(key), value, shown(override))
    content["plugins"] = _absolute_plugins(content.get("plugins"), path)
    known = ["base", *(f.name for f in fields(File))]
    refuse_unknown([k for k in KEPT if k in content], known, str(path), "")
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
        raise ExperimentError(f"{path}: expected keys and values; got {shown(content)}")
    base = content.pop("base", None)
    if "plugins" in content:
        content["plugins"] = _absolute_plugins(content["plugins"], path)
    if base is None:
        return content
    if not isinstance(base, str):
        raise ExperimentError(f"{path}: base: expected a file; got {shown(base)}")
    started = path.parent / expanded(base, f"{path}: base")
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


def _assignment(text: str) -> tuple[str, Any]:
    """The key and the value of a text such as ``seeds=0:8``."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ExperimentError(f"expected key=value, such as seeds=0:8; got {text!r}")
    try:
        return key, _yaml(value)
    except ValueError as error:
        raise ExperimentError(f"{shown(text)}: expected YAML after '='; {error}") from error


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


def _absolute_plugins(value: Any, path: Path) -> Any:
    if not (isinstance(value, list) and all(isinstance(p, str) for p in value)):
        return [] if value is None else value
    return [str((path.parent / expanded(p, f"{path}: plugins")).absolute()) for p in value]


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
        node: A composed node, not a constructed value.
        known: Values of the nodes met before, by node; 0 while a node is looked into.

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


# The check: a file's content to a spec

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

    Plugins are loaded first, so that their metrics have names.

    Args:
        content: As ``read`` returns it, or as a sweep's own run keeps it.
        source: File name that errors begin with.

    Raises:
        ExperimentError: One line: file, key, what was expected, what came, known keys.
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
    """What a sweep's own run keeps beside the file: digest and size of the dataset, arms."""
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
    """An arm of a sweep that prunes, checked down to its options."""
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
    """Seeds that are added until a metric is reliable; None for a number that is fixed."""
    if not isinstance(file.seeds, Mapping):
        return None
    found = checked(AdaptiveSeeds, file.seeds, source, "seeds")
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
    """Refuse a parameter that is no option, or one of whose values the option refuses."""
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

    Training without labels is not to be chosen by labels either, so no accuracy there.
    """
    labels = REGIMENS[regimen].labels
    return {k: goal for k, goal in _GOALS.items() if labels or "accuracy" not in k}


def _objective(regimen: str, section: Any, source: str, where: str) -> Objective:
    known = objectives(regimen)
    plain = {"name": REGIMENS[regimen].objective[0], **mapping(section, source, where)}
    plain.setdefault("goal", known.get(str(plain["name"]), "minimize"))
    objective = checked(Objective, plain, source, where)
    if objective.name not in known:
        raise ExperimentError(
            f"{source}: {where}.name: unknown objective {objective.name!r}; "
            f"known: {', '.join(known)}"
        )
    return objective


def _placed(dataset: DatasetOptions, where: str) -> DatasetOptions:
    """A dataset with its places made absolute."""
    if dataset.root is not None:
        dataset = dataclasses.replace(dataset, root=_folder(dataset.root, f"{where}.root"))
    if isinstance(dataset.cache, str):
        dataset = dataclasses.replace(dataset, cache=_folder(dataset.cache, f"{where}.cache"))
    return dataset


def _plant(value: Any, source: str) -> Planting | None:
    """What to plant; nothing where the key is left empty."""
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
    """Names from one or a list of them, none twice; None for ``all``."""
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


def _artifacts(file: File, source: str) -> str | None:
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
    return str(expanded(value, where).absolute())


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
                raise ExperimentError(f"{where}: expected text for a key; got {shown(key)}")
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
        return f"text; got {shown(value)}, which holds what is no character"
    if value is None or isinstance(value, str | int | float):
        return ""
    return (
        f"text, a number, true or false; got {type(value).__name__} {shown(str(value))}, which "
        "quotes would make text"
    )


def _is_text(value: str) -> bool:
    """Whether it has neither null characters nor halves of characters, which no file name has."""
    return "\0" not in value and not any("\ud800" <= one <= "\udfff" for one in value)
