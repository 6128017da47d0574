"""Runs that no sweep trained: folders of a recorder, and files of other programs."""

import contextlib
import hashlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hardness.dynamics.folder import MANIFEST, SAMPLES, SPEC, Dynamics, epoch_file, read_summary
from hardness.dynamics.importers import (
    AUM_RECORDS,
    AUM_VALUES,
    import_aum,
    import_cartography,
    is_aum,
    is_cartography,
    read_scores,
)
from hardness.dynamics.record import UNKNOWN
from hardness.files import UNREADABLE, Damaged
from hardness.metrics.registry import METRICS
from hardness.models.options import ModelOptions
from hardness.training import REGIMENS
from sweep.errors import Mistake, refuse_unwritable
from sweep.experiment.check import objectives
from sweep.experiment.needs import Keep
from sweep.experiment.runs import Cell, Configuration, Proposal, RunSpec, Trace, identity
from sweep.experiment.sections import options
from sweep.experiment.spec import Objective, RegimenSpec, RunsSpec
from sweep.store.run_store import Sweep

# Marks a folder of imported runs, which the next import may delete.
_IMPORTED = ".imported"


@dataclass(frozen=True, kw_only=True)
class _RecordedRun(RunSpec):
    """A run with unknown training, identified by the digest of its manifest."""

    content: str

    @cached_property
    def run_id(self) -> str:
        return identity([self.configuration, self.seed, self.content])


def gather(path: Path, output: Path) -> Sweep[RunsSpec]:
    """Every run below a folder; files of other programs become run folders in ``output/runs``.

    Args:
        path: Folder of a run, a folder of such folders at any depth, or a file of AUM.
        output: Folder for the tables. Runs in it are ignored.

    Raises:
        Mistake: If there is no run, one cannot be read, or two do not belong together.
    """
    # Absolute, since Ray's workers have their own working directories.
    path, output = path.absolute(), output.absolute()
    found = list(_find(path, output))
    if not found:
        raise Mistake(
            f"{path}: expected folders of a recorder, dynamics_epoch_0.jsonl of cartography or "
            f"{AUM_VALUES} of AUM; got none"
        )
    refuse_unwritable(output, "--output")
    if (output / SPEC).exists():
        raise Mistake(f"--output: expected a folder for tables; got {output}, which holds a run")
    return _gathered(found, output)


def _gathered(found: Sequence[Path], output: Path) -> Sweep[RunsSpec]:
    kinds = ["aum" if is_aum(p) else "cartography" if is_cartography(p) else "" for p in found]
    if not any(kinds):
        return _recorded(found, output, [])
    with _made_anew(output):
        notes, folders = [], []
        numbers: dict[str, int] = defaultdict(int)
        for place, kind in zip(found, kinds, strict=True):
            if kind:
                folder = output / "runs" / f"{kind}-{numbers[kind]}"
                _import(place, folder, numbers[kind])
                notes.append(f"{place} counts as seed {numbers[kind]} of the configuration {kind}")
                numbers[kind] += 1
            folders.append(folder if kind else place)
        return _recorded(folders, output, notes)


def _recorded(folders: Sequence[Path], output: Path, notes: list[str]) -> Sweep[RunsSpec]:
    cells = [_cell(folder) for folder in folders]
    _refuse_twins(cells)
    notes += _check_samples(cells)
    configurations = {c.run.configuration.configuration_id: c.run.configuration for c in cells}
    _check_epochs(cells)
    regimens = {c.regimen: _section(c.regimen) for c in configurations.values()}
    notes += _unjudged(cells, regimens)
    return Sweep(
        spec=RunsSpec(
            name=output.name,
            storage_path=str(output.parent),
            dataset=None,
            regimens=regimens,
            metrics=("all",),
            plugins=(),
            # Recorded logits are used, whatever their size.
            keep=Keep(logits="last"),
        ),
        proposals=[
            Proposal(configuration=c, parameters=_parameters(c), number=number)
            for number, c in enumerate(configurations.values())
        ],
        cells=cells,
        notes=notes,
    )


def _make_room(runs: Path) -> None:
    """Delete the runs of an earlier import; refuse a folder with other files."""
    marked = not runs.is_symlink() and (runs / _IMPORTED).is_file()
    if not marked and (runs.is_symlink() or (runs.exists() and any(runs.iterdir()))):
        raise Mistake(
            f"--output: expected a folder whose runs/ is free for the imported runs; got {runs} "
            "with other files; give another folder"
        )
    shutil.rmtree(runs, ignore_errors=True)
    runs.mkdir(parents=True, exist_ok=True)
    (runs / _IMPORTED).touch()


@contextlib.contextmanager
def _made_anew(output: Path) -> Iterator[None]:
    """An empty ``output/runs`` for imported runs, deleted again if the import fails."""
    new = not output.exists()
    _make_room(output / "runs")
    try:
        yield
    except Mistake:
        shutil.rmtree(output / "runs")
        if new and not any(output.iterdir()):
            output.rmdir()
        raise


def given_scores(files: Sequence[Path], low_is_hard: Sequence[str]) -> dict[str, pd.Series]:
    """Hardness computed by other programs: values by ``sample_id``, keyed ``column.file``.

    A column with the name of a metric gets the metric's sign. In other columns high is hard.

    Args:
        files: Csv or parquet files with ``sample_id`` and one column per score.
        low_is_hard: Columns in which low is hard.

    Raises:
        Mistake: If a file is no such table, or a column is missing.
    """
    found: dict[str, pd.Series] = {}
    columns: set[str] = set()
    for file in files:
        try:
            scores = read_scores(file)
        except ValueError as error:
            raise Mistake(f"--scores: {error}") from error
        for column in map(str, scores):
            name = f"{column}.{file.stem}"
            if name in found:
                raise Mistake(f"--scores: expected files of different names; got {name} twice")
            known = METRICS[column].sign if column in METRICS else 1
            found[name] = (-1 if column in low_is_hard else known) * scores[column]
            columns.add(column)
    absent = [column for column in low_is_hard if column not in columns]
    if absent:
        known_columns = ", ".join(sorted(columns)) or "none"
        raise Mistake(
            f"--low-is-hard: unknown column {absent[0]!r} in --scores; known: {known_columns}"
        )
    return found


def _find(path: Path, output: Path) -> Iterator[Path]:
    """Folders of runs or of cartography, and files of AUM, in the order of their names."""
    if is_aum(path):
        yield path
    for place, below, files in os.walk(path):
        folder = Path(place)
        below.sort()
        below[:] = [name for name in below if (folder / name).resolve() != output.resolve()]
        if SPEC in files and ({MANIFEST, SAMPLES} & {*files}):
            below.clear()
            yield folder
        elif is_cartography(folder):
            yield folder
        else:
            # Full records come first, since they also hold the epochs.
            yield from [folder / f for f in (AUM_RECORDS, AUM_VALUES) if f in files][:1]


def _import(place: Path, folder: Path, seed: int) -> None:
    try:
        (import_aum if is_aum(place) else import_cartography)(place, folder, seed=seed)
    except ValueError as error:
        raise Mistake(str(error)) from error


def _cell(folder: Path) -> Cell:
    try:
        content = json.loads((folder / SPEC).read_bytes())
        configuration = Configuration.from_json(json.dumps(content["run"]["configuration"]))
        seed = content["run"]["seed"]
        right = (
            configuration.regimen in REGIMENS
            and isinstance(configuration.options, dict)
            and type(seed) is int
            and isinstance(content["classes"], list)
            and _is_a_model(configuration.model)
            and {"device", "versions", "cpu_capability"} <= content.keys()
            and len(configuration.configuration_id) > 0
        )
    except UNREADABLE as error:
        raise Mistake(f"{folder / SPEC}: expected the spec of a run; got {_told(error)}") from error
    if not right:
        raise Mistake(f"{folder / SPEC}: expected the spec of a run; got another file")
    try:
        dynamics = Dynamics(folder)
        last = folder / epoch_file(dynamics.manifest.epochs - 1)
        trace = Trace(
            tracking_run=str(folder),
            state="done",
            signals=frozenset(dynamics.manifest.signals),
            objectives=read_summary(last),
            epochs=dynamics.manifest.epochs,
        )
        digest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    except Damaged as error:
        finished = (folder / MANIFEST).exists()
        reason = f"damaged: {error}" if finished else f"unfinished: no {MANIFEST} in {folder}"
        trace, digest = Trace(tracking_run=str(folder), state="missing", reason=reason), ""
    run = _RecordedRun(configuration=configuration, seed=seed, content=digest)
    return Cell(run=run, trace=trace)


def _told(error: Exception) -> str:
    return f"one without {error}" if isinstance(error, KeyError) else f"another file: {error}"


def _is_a_model(content: Any) -> bool:
    """Whether a spec's model is empty, as a recorder writes it, or the options of a network."""
    return content == {} or bool(options(ModelOptions, content))


def _refuse_twins(cells: Sequence[Cell]) -> None:
    places: dict[tuple[str, int], str] = {}
    for cell in cells:
        run = cell.run.configuration.configuration_id, cell.run.seed
        place = _place(cell)
        if run in places:
            raise Mistake(
                f"{_named(cell)}: expected one run of seed {cell.run.seed}; got {places[run]} and "
                f"{place}"
            )
        places[run] = place


def _check_samples(cells: Sequence[Cell]) -> list[str]:
    """Refuse runs with different samples or labels, since each table combines all runs."""
    first: tuple[str, np.ndarray, np.ndarray] | None = None
    notes = []
    for cell in cells:
        if cell.state != "done":
            continue
        place = _place(cell)
        try:
            samples = Dynamics(Path(place)).samples
            ids, labels = samples["sample_id"].to_numpy(), samples["label"].to_numpy()
        except (Damaged, KeyError) as error:
            raise Mistake(f"{place}: expected a table of samples; got {error}") from error
        first = first or (place, ids, labels)
        if not np.array_equal(ids, first[1]):
            raise Mistake(
                f"expected the same sample ids in every run; got other ids in {place} than in "
                f"{first[0]}; aggregate each dataset separately"
            )
        differ = (labels != first[2]) & (labels != UNKNOWN) & (first[2] != UNKNOWN)
        if differ.any():
            raise Mistake(
                f"expected the same labels in every run; got another label for sample "
                f"{ids[differ][0]} in {place} than in {first[0]}"
            )
        if len(labels) and (labels == UNKNOWN).all():
            notes.append(f"{place} has no labels: its samples count as one class")
    return notes


def _check_epochs(cells: Sequence[Cell]) -> None:
    """Refuse seeds with different epochs, since their counts and times cannot be averaged."""
    lengths: dict[str, int] = {}
    for cell in cells:
        if cell.trace is None or cell.state != "done":
            continue
        expected = lengths.setdefault(cell.run.configuration.configuration_id, cell.trace.epochs)
        if cell.trace.epochs != expected:
            raise Mistake(
                f"{_named(cell)}: expected {expected} epochs for every seed; got "
                f"{cell.trace.epochs} for seed {cell.run.seed}"
            )


def _unjudged(cells: Sequence[Cell], regimens: Mapping[str, RegimenSpec]) -> list[str]:
    """Notes on regimens whose best configuration is unknown, so that the first is shown."""
    notes = []
    for regimen, section in regimens.items():
        mine = [c for c in cells if c.run.configuration.regimen == regimen and c.state == "done"]
        several = {c.run.configuration.configuration_id for c in mine}
        known = all(c.trace and section.metric.name in c.trace.objectives for c in mine)
        if len(several) > 1 and not known:
            number = section.metric.name
            notes.append(
                f"agreement and figures show {_named(mine[0])}, the first of {len(several)}; to "
                f"show the best one, record end_epoch({number}=...) in every run"
            )
    return notes


def _section(regimen: str) -> RegimenSpec:
    name = REGIMENS[regimen].objective
    objective = Objective(name=name, goal=objectives(regimen)[name])
    return RegimenSpec(options={}, parameters={}, metric=objective)


def _parameters(configuration: Configuration) -> dict[str, Any]:
    """Values that tell configurations apart in tables, the name first."""
    given = configuration.options
    named = {k: given[k] for k in ("configuration",) if k in given}
    return named | {k: v for k, v in given.items() if not isinstance(v, Mapping)}


def _named(cell: Cell) -> str:
    configuration = cell.run.configuration
    name = configuration.options.get("configuration", configuration.configuration_id)
    return f"configuration {name!r}"


def _place(cell: Cell) -> str:
    assert cell.trace is not None
    return cell.trace.tracking_run
