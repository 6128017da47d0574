"""Turns sections of an experiment file into checked dataclasses."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError

from hardness.models.options import ModelOptions
from hardness.training import REGIMENS
from sweep.errors import Mistake

T = TypeVar("T")
# Characters of an error line; a list of all metrics fits.
_LONGEST = 4000
# Expected values in our words, by pydantic's kind of error.
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
    """A mistake in an experiment file or an override, shortened to one line."""

    def __init__(self, text: str) -> None:
        line = " ".join(text.split())
        super().__init__(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…")


def options(kind: type[T], plain: Mapping[str, Any]) -> T:
    """Build an options dataclass from plain values, with checked types and ranges.

    Raises:
        pydantic.ValidationError: If a value does not fit.
    """
    # mypy believes that a dataclass type is not hashable.
    return _adapter(kind).validate_json(json.dumps(plain), strict=True)  # type: ignore[arg-type]


def with_parameters(
    regimen: str, base: Mapping[str, Any], model: ModelOptions, values: Mapping[str, Any]
) -> tuple[Any, ModelOptions]:
    """A regimen's options and model, with searched values filled in.

    Args:
        regimen: Key of ``REGIMENS``.
        base: Fixed options of the regimen.
        model: Model of the sweep.
        values: Searched values by dotted key; keys that begin with ``model.`` go to the model.

    Raises:
        ExperimentError: If a key or value does not fit. The line names the key.
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
    """Turn a section into its dataclass; an empty section gives the defaults."""
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
    """A section's keys and values; an empty mapping if the section is empty."""
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        prefix = f"{source}: {where}" if where else source
        raise ExperimentError(f"{prefix}: expected keys and values; got {shown(content)}")
    return content


def refuse_unknown(names: Iterable[str], known: Iterable[str], source: str, where: str) -> None:
    """Refuse unknown keys of a section; the error names the first one and the known keys."""
    known = sorted(known)
    for name in names:
        if name not in known:
            raise ExperimentError(
                f"{source}: unknown key {name!r}{_inside(filter(None, [where]))}; "
                f"known: {', '.join(known)}"
            )


def _told(error: Mapping[str, Any], place: Sequence[str | int]) -> str:
    """The error line for one of pydantic's errors."""
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
    """The keys of a section, or of a section inside it."""
    for key in inside:
        kind = _dataclass_in({f.name: f.type for f in fields(kind)}[key])
    return [f.name for f in fields(kind)]


def _dataclass_in(annotation: Any) -> Any:
    found = (annotation, *get_args(annotation))
    return next((c for c in found if isinstance(c, type) and is_dataclass(c)), None)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    # Pydantic accepts no config for a plain dataclass, but for a union with it.
    return TypeAdapter(kind | None, config=ConfigDict(extra="forbid"))


def put(content: dict[str, Any], segments: Sequence[str], value: Any, source: str) -> None:
    """Set the value of a key, which may lie inside other keys."""
    *path, last = segments
    for depth, segment in enumerate(path, start=1):
        inner = {} if content.get(segment) is None else content[segment]
        if not isinstance(inner, dict):
            place = ".".join(path[:depth])
            raise ExperimentError(f"{source}: expected keys in {place!r}; got {shown(inner)}")
        # Copied, since a YAML alias may use the same keys elsewhere.
        inner = {**inner}
        content[segment] = inner
        content = inner
    content[last] = value


def shown(value: object) -> str:
    """A value as quoted in errors, shortened if it is long."""
    if value is None:
        return "nothing"
    try:
        text = str(value).lower() if isinstance(value, bool) else repr(value)
    except ValueError:  # a number with too many digits for str()
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004


def expanded(value: str, where: str) -> Path:
    """A path with ``~`` replaced by the home folder."""
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise ExperimentError(f"{where}: expected a path; got {value!r}: {error}") from error
