"""An experiment file plus ``key=value`` overrides, checked, as a ``SweepSpec``."""

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hardness.datasets import DatasetOptions
from hardness.metrics import METRICS
from hardness.models import ModelOptions
from hardness.seeding import PURPOSES, check_purposes
from hardness.training import REGIMENS
from sweep.mistake import Mistake
from sweep.plugins import Plugin
from sweep.spec import Keep, Objective, Parameter, RegimenSpec, Resources, SweepSpec

T = TypeVar("T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_RANGE = re.compile(r"(\d+):(\d+)")
_RESERVED = ("parameters", "metric")


class ExperimentError(Mistake, ValueError):
    """Something in an experiment file or an override: where, what was expected, what came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Split:
    split: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """The keys of an experiment file; the sections are checked one by one."""

    name: str
    dataset: dict[str, Any]
    regimens: dict[str, Any]
    validation: str | _Split | None = None
    model: dict[str, Any] = field(default_factory=dict)
    method: Literal["grid", "random", "bayes"] = "grid"
    max_configurations: int | None = None
    search_seed: int = 0
    seeds: int | str | list[int] = 5
    vary: str | list[str] = "all"
    metrics: str | list[str] = "all"
    keep: dict[str, Any] = field(default_factory=dict)
    plugins: list[str] = field(default_factory=list)
    resources: dict[str, Any] = field(default_factory=dict)
    storage_path: str = "sweeps"
    tracking_uri: str | None = None


def read(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a file and put overrides such as ``seeds=0:8`` into it, still unchecked.

    Raises:
        ExperimentError: If there is no such file, it is not YAML, or an override has no ``=``.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text())
    except FileNotFoundError as error:
        raise ExperimentError(f"{path}: no such file; expected an experiment file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path}: expected a readable text file; came {error}") from error
    except YAMLError as error:
        raise ExperimentError(f"{path}: expected YAML; came {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise ExperimentError(f"{path}: expected keys and values; came {_shown(content)}")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ExperimentError(f"expected key=value, such as seeds=0:8; came {override!r}")
        try:
            value = YAML(typ="safe", pure=True).load(io.StringIO(text))
        except YAMLError as error:
            raise ExperimentError(f"{override}: expected a YAML value after '='") from error
        _put(content, _segments(key), value, override)
    content["plugins"] = _absolute_plugins(content.get("plugins"), path)
    return content


def check(content: Mapping[str, Any], source: str) -> SweepSpec:
    """Turn the content of an experiment file into a ``SweepSpec``.

    Plugins are loaded first, so that their metrics have names.

    Args:
        content: As ``read`` returns it, or as a sweep's own run keeps it.
        source: File name that errors begin with.

    Raises:
        ExperimentError: One line: file, key, what was expected, what came, known keys.
    """
    digest = content.get("dataset_digest")
    content = {k: v for k, v in content.items() if k != "dataset_digest"}
    file = _section(_File, content, source, "")
    if not _NAME.fullmatch(file.name):
        raise ExperimentError(
            f"{source}: name: expected letters, digits, '.', '_' and '-'; came {file.name!r}"
        )
    dataset = _section(DatasetOptions, file.dataset, source, "dataset")
    model = _section(ModelOptions, file.model, source, "model")
    if file.max_configurations is not None and file.max_configurations < 1:
        raise ExperimentError(
            f"{source}: max_configurations: expected at least 1; came {file.max_configurations}"
        )
    plugins = tuple(Plugin.read(Path(p), source) for p in file.plugins)
    for plugin in plugins:
        plugin.load()
    if not file.regimens:
        raise ExperimentError(f"{source}: regimens: expected at least one; known: {_known()}")
    spec = SweepSpec(
        name=file.name,
        dataset=dataset,
        validation=_validation(file.validation, source),
        model=model,
        regimens={
            name: _regimen(name, section, model, file.method, source)
            for name, section in file.regimens.items()
        },
        method=file.method,
        max_configurations=file.max_configurations,
        search_seed=file.search_seed,
        seeds=seeds(file.seeds, source),
        vary=_vary(file.vary, source),
        metrics=_metrics(file.metrics, source),
        keep=_section(Keep, file.keep, source, "keep"),
        plugins=plugins,
        resources=_section(Resources, file.resources, source, "resources"),
        storage_path=_place(file.storage_path, source),
        tracking_uri=file.tracking_uri,
        dataset_digest=digest,
    )
    return spec


def options(kind: type[T], plain: Mapping[str, Any]) -> T:
    """Build an options dataclass from plain values, types and ranges checked.

    Raises:
        pydantic.ValidationError: If a value does not fit.
    """
    return _adapter(kind).validate_json(json.dumps(plain), strict=True)


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
        if section == "model":
            network[rest] = value
        else:
            _put(plain, key.split("."), value, key)
    where = f"regimens.{regimen}"
    checked = _section(REGIMENS[regimen].options, plain, where, "")
    return checked, _section(ModelOptions, network, where, "model")


def seeds(value: int | str | Sequence[int], source: str) -> tuple[int, ...]:
    """Seeds from ``10``, ``[0, 1, 2]`` or ``"0:10"``.

    Raises:
        ExperimentError: If there are none, or one twice, or a negative one.
    """
    expected = "expected a count, a list such as [0, 1, 2] or a range such as 0:10"
    if isinstance(value, str):
        found = _RANGE.fullmatch(value)
        if not found and not value.isdecimal():
            raise ExperimentError(f"{source}: seeds: {expected}; came {value!r}")
        value = range(int(found[1]), int(found[2])) if found else int(value)  # type: ignore[assignment]
    numbers = tuple(range(value)) if isinstance(value, int) else tuple(value)  # type: ignore[arg-type]
    if not numbers:
        raise ExperimentError(f"{source}: seeds: {expected}; came none")
    if min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise ExperimentError(
            f"{source}: seeds: expected different seeds of 0 or more; came {list(numbers)}"
        )
    return numbers


def _regimen(name: str, section: Any, model: ModelOptions, method: str, source: str) -> RegimenSpec:
    where = f"regimens.{name}"
    if name not in REGIMENS:
        raise ExperimentError(f"{source}: unknown key {name!r} in 'regimens'; known: {_known()}")
    section = {} if section is None else section
    if not isinstance(section, dict):
        raise ExperimentError(f"{source}: {where}: expected keys; came {_shown(section)}")
    kind = REGIMENS[name].options
    unknown = [k for k in section if k not in (*(f.name for f in fields(kind)), *_RESERVED)]
    if unknown:
        known = ", ".join(sorted((*(f.name for f in fields(kind)), *_RESERVED)))
        raise ExperimentError(f"{source}: unknown key {unknown[0]!r} in {where!r}; known: {known}")
    base = {k: v for k, v in section.items() if k not in _RESERVED}
    _section(kind, base, source, where)
    raw = section.get("parameters") or {}
    if not isinstance(raw, dict):
        raise ExperimentError(f"{source}: {where}.parameters: expected keys; came {_shown(raw)}")
    parameters = {
        str(k): _section(Parameter, v, source, f"{where}.parameters.{k}") for k, v in raw.items()
    }
    for key, parameter in parameters.items():
        if parameter.values is None and method == "grid":
            raise ExperimentError(
                f"{source}: {where}.parameters.{key}: a grid needs values; "
                "give values, or method: random or bayes"
            )
        for value in parameter.values or (parameter.min, parameter.max):
            whole = parameter.distribution == "int_uniform" and value is not None
            try:
                with_parameters(name, base, model, {key: int(value) if whole else value})
            except ExperimentError as error:
                text = str(error).removeprefix(f"{where}: ")
                raise ExperimentError(f"{source}: {where}.parameters.{key}: {text}") from error
    default = REGIMENS[name].objective
    metric = {"name": default[0], "goal": default[1], **(section.get("metric") or {})}
    return RegimenSpec(
        options=base,
        parameters=parameters,
        metric=_section(Objective, metric, source, f"{where}.metric"),
    )


def _section(kind: type[T], content: Any, source: str, where: str) -> T:
    """Check one section against its dataclass."""
    content = {} if content is None else content
    prefix = f"{source}: {where}: " if where else f"{source}: "
    if not isinstance(content, Mapping):
        raise ExperimentError(f"{prefix}expected keys and values; came {_shown(content)}")
    _refuse_unknown(kind, content, source, where)
    try:
        return _adapter(kind).validate_json(json.dumps(content), strict=True)
    except (TypeError, OverflowError) as error:
        raise ExperimentError(f"{prefix}expected plain values; came {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # Branches of a union add their type's name to the place; keys are what a user wrote.
        keys = [str(p) for p in first["loc"] if isinstance(p, int) or _is_key(content, p)]
        place = ".".join([where, *keys] if where else keys)
        message = first["msg"].removeprefix("Value error, ")
        shown = (
            ""
            if "; came " in message or first["type"] == "missing"
            else (f"; came {_shown(first['input'])}")
        )
        if first["type"] == "missing":
            place, message = ".".join(filter(None, [where, str(first["loc"][-1])])), "is missing"
        start = f"{source}: {place}: " if place else f"{source}: "
        raise ExperimentError(f"{start}{_one_line(message)}{shown}") from error


def _refuse_unknown(kind: Any, content: Mapping[str, Any], source: str, where: str) -> None:
    known = {f.name: f.type for f in fields(kind)}
    for key, value in content.items():
        if key not in known:
            inside = f" in {where!r}" if where else ""
            raise ExperimentError(
                f"{source}: unknown key {key!r}{inside}; known: {', '.join(sorted(known))}"
            )
        inner = _dataclass_in(known[key])
        if inner is not None and isinstance(value, Mapping):
            _refuse_unknown(inner, value, source, f"{where}.{key}" if where else str(key))


def _dataclass_in(annotation: Any) -> Any:
    found = (annotation, *get_args(annotation))
    return next((c for c in found if isinstance(c, type) and is_dataclass(c)), None)


def _is_key(content: Any, part: Any) -> bool:
    if isinstance(content, Mapping):
        return part in content or any(_is_key(v, part) for v in content.values())
    return False


@cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(kind)


def _validation(value: str | _Split | None, source: str) -> str | float | None:
    if isinstance(value, str) and value != "test":
        raise ExperimentError(
            f"{source}: validation: expected test or {{split: 0.1}}; came {value}"
        )
    if isinstance(value, _Split):
        if not 0 < value.split < 1:
            raise ExperimentError(
                f"{source}: validation.split: expected a share in (0, 1); came {value.split}"
            )
        return value.split
    return value


def _vary(value: str | Sequence[str], source: str) -> tuple[str, ...]:
    if value == "all":
        return PURPOSES
    names = (value,) if isinstance(value, str) else tuple(value)
    try:
        check_purposes(names)
    except ValueError as error:
        raise ExperimentError(f"{source}: vary: {error}") from error
    return tuple(p for p in PURPOSES if p in names)


def _metrics(value: str | Sequence[str], source: str) -> tuple[str, ...]:
    if value == "all":
        return ("all",)
    names = (value,) if isinstance(value, str) else tuple(value)
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        came = repr(unknown[0]) if unknown else "none"
        raise ExperimentError(
            f"{source}: metrics: unknown metric {came}; known: all, {', '.join(METRICS)}"
        )
    return names


def _place(value: str, source: str) -> str:
    if "://" in value:
        raise ExperimentError(
            f"{source}: storage_path: expected a folder, shared between nodes on a cluster; "
            f"came {value}"
        )
    return str(Path(value).expanduser().absolute())


def _absolute_plugins(value: Any, path: Path) -> Any:
    if not isinstance(value, list):
        return value or []
    return [str((path.parent / str(p)).absolute()) for p in value]


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


def _put(content: dict[str, Any], segments: Sequence[str], value: Any, shown: str) -> None:
    *path, last = segments
    for segment in path:
        inner = content.get(segment)
        if inner is None:
            inner = content[segment] = {}
        if not isinstance(inner, dict):
            raise ExperimentError(f"{shown}: {segment!r} holds a value, not keys")
        content = inner
    content[last] = value


def _known() -> str:
    return ", ".join(REGIMENS)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _shown(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004
