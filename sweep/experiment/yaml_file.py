"""Reads an experiment file, its bases and overrides into plain values."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, SequenceNode

from hardness.training import REGIMENS
from sweep.experiment.sections import ExperimentError, expanded, put, refuse_unknown, shown
from sweep.experiment.spec import Parameter

# Limits of a file. Values count at every use of an alias: ten lines can stand for billions.
_MOST_CHARACTERS = 1 << 18
_MOST_VALUES = 100_000
# Keys that only the store's copy of the file has.
KEPT = ("dataset_digest", "dataset_size", "arms")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """The keys of an experiment file; its sections are checked later."""

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
    """Read a file and apply overrides such as ``seeds=0:8``; the content is not checked.

    ``base: other.yaml`` starts from another file, given relative to this one. Sections are joined
    key by key, lists and values are replaced. A key that is empty here is removed.

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
    """The keys of a file, joined with those of its bases."""
    try:
        content = _yaml(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ExperimentError(f"{path}: expected an experiment file; got no file") from error
    except UnicodeDecodeError as error:
        raise ExperimentError(f"{path}: expected a text file; got other bytes") from error
    except OSError as error:
        raise ExperimentError(
            f"{path}: expected an experiment file that can be read; got: {error.strerror}"
        ) from error
    except ValueError as error:
        raise ExperimentError(f"{path}: expected YAML; got {error}") from error
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
        raise ExperimentError(f"{path}: base: expected files without a circle; got a circle")
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
        raise ExperimentError(f"{shown(text)}: expected YAML after '='; got {error}") from error


def _segments(key: str) -> list[str]:
    """Split a dotted key; below ``parameters``, a searched key is a single segment."""
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
        ValueError: If it is not YAML, or too large. The text names the line.
    """
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"{len(text)} characters, more than {_MOST_CHARACTERS}")
    try:
        values = _values(YAML(typ="safe", pure=True).compose(text), {})
        if values > _MOST_VALUES:
            raise ValueError(f"more than {_MOST_VALUES} values, with aliases written out")
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = f"an error in line {mark.line + 1}: " if mark else ""
        problem = error.problem or ""
        context = f"{error.context} " if problem.startswith("but ") else ""
        raise ValueError(f"{line}{context}{problem[:200]}") from error
    except YAMLError as error:
        raise ValueError(str(error).partition("\n")[0]) from error
    except RecursionError as error:
        raise ValueError("values nested too deeply") from error
    except (LookupError, TypeError, OverflowError, AttributeError) as error:
        # Raised for invalid tags, keys and escapes.
        raise ValueError(f"an invalid value: {error}") from error


def _values(node: Any, known: dict[int, int]) -> int:
    """Number of values in a node, with every alias and every merge written out.

    Args:
        node: Composed node of the YAML reader.
        known: Numbers of the nodes counted so far, by id; 0 while a node is being counted.

    Raises:
        ValueError: If an alias lies inside the node that it repeats.
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
            f"an alias in line {node.start_mark.line + 1}, inside the value that it repeats"
        )
    return known[id(node)]
