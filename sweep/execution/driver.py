"""The driver of a sweep: loads the dataset and trains every cell that is not done."""

import contextlib
import dataclasses
import math
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch

from hardness.data import datasets
from hardness.data.datasets import Dataset
from hardness.data.options import DatasetOptions
from hardness.data.parts import samples_in
from hardness.models.options import ModelOptions
from hardness.planting.options import Planting
from hardness.planting.plant import plant
from hardness.seeding import Streams
from hardness.training import REGIMENS
from sweep.errors import TrackerError, hidden
from sweep.execution import adaptive_seeds, fanout
from sweep.execution.adaptive_seeds import Judge
from sweep.execution.places import Places, Progress
from sweep.execution.progress import Display
from sweep.execution.status import look
from sweep.execution.trial import forget_ended
from sweep.experiment import addresses
from sweep.experiment.runs import Cell, Pack, RunSpec
from sweep.experiment.sections import ExperimentError, options
from sweep.experiment.spec import SweepSpec
from sweep.planning import due_cells, search, statements
from sweep.store.mlflow_store import Store
from sweep.store.run_store import PATIENCE_S, Sweep

# Pixel values in the images on which one epoch is timed: at most half a minute of work.
MEASURED = 1 << 23


def load(spec: SweepSpec) -> tuple[SweepSpec, Dataset]:
    """The dataset with planted hardness, and the spec with its digest and size. Writes no cache.

    Raises:
        ExperimentError: If the dataset cannot be loaded; one line.
    """
    with _in_one_line("dataset"):
        dataset = datasets.load(spec.dataset, validation=spec.validation, write_cache=False)
    if spec.plant is not None:
        with _in_one_line("plant"):
            dataset = plant(dataset, spec.plant, _far(spec.plant))
    for name, section in spec.regimens.items():
        folds = section.options.get("folds", 0)
        if folds > len(dataset.train):
            raise ExperimentError(
                f"regimens.{name}.folds: expected at most the {len(dataset.train)} training "
                f"samples; got {folds}"
            )
    size = (len(dataset.train), len(dataset.classes), *dataset.train.images.shape[1:])
    return dataclasses.replace(spec, dataset_digest=dataset.digest, dataset_size=size), dataset


def _far(plan: Planting) -> Dataset | None:
    """The dataset of planted ``ood_far`` images; None if there are none."""
    if plan.ood_far is None:
        return None
    return datasets.load(plan.ood_far.dataset, write_cache=False)


def prepare(
    spec: SweepSpec, dataset: Dataset, say: Callable[[str], None] = lambda _line: None
) -> Dataset:
    """Write the dataset's caches and download pretrained weights, for the workers.

    Args:
        spec: The sweep's spec.
        dataset: The sweep's dataset.
        say: Called with one line before each slow step.

    Returns:
        The dataset as it is sent to the workers.

    Raises:
        ExperimentError: If a cache cannot be written or weights cannot be downloaded; one line.
    """
    for cache in dataset.caches:
        if cache.missing_bytes:
            say(
                f"decoding {len(cache.images):,} images once into {cache.path}, "
                f"{cache.nbytes / 2**30:.2f} GiB"
            )
            with _in_one_line("dataset"):
                cache.write()
    for model in statements.pretrained(search.proposals(spec, [], {})):
        from hardness.models import networks  # noqa: PLC0415 - imports torchvision

        with _in_one_line("model"):
            networks.fetch(model)
    return dataclasses.replace(dataset, caches=())


@contextlib.contextmanager
def _in_one_line(key: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        raise ExperimentError(f"{key}: {' '.join(str(error).split())}") from error


def places(content: Mapping[str, Any], spec: SweepSpec) -> tuple[str, str]:
    """Tracking address and storage path.

    Raises:
        ExperimentError: If a Ray job does not say where its results go.
    """
    if fanout.in_job():
        uri = spec.tracking_uri or ""
        if uri != addresses.OFFLINE and not uri.startswith(("http://", "https://")):
            raise ExperimentError(
                "tracking_uri: expected http://HOST:PORT of an MLflow server that every node of "
                f"the Ray job reaches; got {hidden(uri) or 'nothing'}"
            )
        if "storage_path" not in content:
            raise ExperimentError(
                "storage_path: expected a folder that every node of the Ray job sees; got nothing"
            )
    return addresses.located(spec.tracking_uri, spec.storage_path), spec.storage_path


def train(
    content: Mapping[str, Any],
    spec: SweepSpec,
    dataset: Dataset,
    store: Store,
    *,
    retry_failed: bool,
) -> Sweep[SweepSpec]:
    """Train every cell that is neither done nor failed; needs a Ray session.

    Args:
        content: The experiment file as read, to be kept in the store.
        spec: The checked spec, with the dataset's digest.
        dataset: The training and validation samples.
        store: The sweep's store, created by this process.
        retry_failed: Whether failed cells are started again.

    Raises:
        ExperimentError: If tracking is offline and Ray has several nodes.
    """
    if store.uri == addresses.located(addresses.OFFLINE, spec.storage_path) and not fanout.alone():
        raise ExperimentError(
            "tracking_uri: expected http://HOST:PORT of an MLflow server that every node reaches; "
            "got offline, a file on one machine"
        )
    store.patience_s = PATIENCE_S
    tags = {"git_commit": commit} if (commit := _git_commit()) else {}
    known = {"dataset_digest": spec.dataset_digest, "dataset_size": spec.dataset_size}
    # Without the store's address, which may contain credentials; every reader has the address.
    kept = {k: v for k, v in {**content, **known}.items() if k != "tracking_uri"}
    plugins = {f"plugin {p.path}": p.digest for p in spec.plugins}
    store.save_sweep(kept, {**tags, **plugins})
    session = _Session(spec, store, retry_failed=retry_failed)
    first = session.next_packs()
    where = Places(
        store=store,
        name=spec.name,
        storage_path=spec.storage_path,
        recording=spec.needs.recording,
        checkpoint_seconds=spec.resources.checkpoint_seconds,
        spool_gib=spec.resources.spool_gib,
        plugins=spec.plugins,
        tags=tags,
    )
    for cell in session.cells:
        if cell.state == "done" or (cell.state == "failed" and cell.trace and cell.trace.final):
            forget_ended(cell.run.run_id, where)
    with Display(spec, session.cells) as display:

        def on_progress(progress: Progress) -> None:
            session.hear(progress)
            display.update(progress)

        if first:
            lost = fanout.run(
                session.after(first, display),
                on_progress,
                dataset=dataset,
                places=where,
                resources=spec.resources,
            )
            for pack, reason in lost:
                _give_up(store, pack, reason)
            store.tidy()
    return look(spec, store)


def interrupt(store: Store, say: Callable[[str], None]) -> None:
    """Mark interrupted runs in the store, so that they no longer count as running.

    Args:
        store: Store of a sweep without a living driver.
        say: Called with one line if the tracker does not answer; the next driver marks them then.
    """
    store.patience_s = 0
    try:
        store.tidy()
    except TrackerError as error:
        say(str(error))


def estimate(spec: SweepSpec, dataset: Dataset, cells: Sequence[Cell]) -> float:
    """Estimated seconds to train these cells one after another on one core of this machine.

    One epoch of each regimen is trained and timed, on at most ``MEASURED`` pixel values. Pretrained
    weights are replaced by fresh ones, which cost the same. The time of scoring passes follows from
    their number of forward passes.
    """
    seconds = 0.0
    some, share = _some(dataset)
    for name in {c.run.configuration.regimen for c in cells}:
        regimen = REGIMENS[name]
        runs = [c.run.configuration for c in cells if c.run.configuration.regimen == name]
        chosen = options(regimen.options, runs[0].options)
        model = dataclasses.replace(options(ModelOptions, runs[0].model), pretrained=None)
        records = regimen.train(some, model, chosen, Streams(seed=0))
        next(records)
        started = time.perf_counter()
        next(records)
        an_epoch = (time.perf_counter() - started) / share
        for run in runs:
            due = due_cells.needed_passes(spec, run)
            forwards = sum(len(due[made]) * regimen.passes[made].forwards for made in due)
            epochs = options(regimen.options, run.options).epochs
            of_all = samples_in(dataset, run.dataset.get("part")) / len(dataset.train)
            seconds += an_epoch * of_all * (epochs + forwards / regimen.forwards)
    return seconds


def _some(dataset: Dataset) -> tuple[Dataset, float]:
    """Images with at most ``MEASURED`` pixel values, and their share of all images."""
    numbers = math.prod(dataset.train.images.shape[1:])
    share = min(1.0, max(64, MEASURED // numbers) / len(dataset.train))
    if share == 1:
        return dataset, share
    # Evenly spaced, because images of one class may be stored together.
    train, held = (
        part.take(torch.linspace(0, len(part) - 1, max(2, round(share * len(part)))).long())
        for part in (dataset.train, dataset.validation)
    )
    return dataclasses.replace(dataset, train=train, validation=held), share


class _Session:
    """The packs that one driver has started, so that no pack is started twice."""

    def __init__(self, spec: SweepSpec, store: Store, *, retry_failed: bool) -> None:
        self.spec, self.store, self.retry_failed = spec, store, retry_failed
        self.issued: set[str] = set()
        self.cells: Sequence[Cell] = ()
        self.news: list[str] = []
        self._open: dict[str, set[str]] = {}
        self._complete = False
        self._judge = Judge(spec, store, keep=True)
        self._told: set[tuple[str, int]] | None = None
        # Earlier failures that --retry-failed has not started again yet.
        traces = store.traces() if retry_failed else {}
        self._again = {run for run, trace in traces.items() if trace.state == "failed"}

    def next_packs(self) -> list[Pack]:
        """Read the store and return the packs that can start now."""
        sweep = look(self.spec, self.store, self._judge, self._again)
        self.cells = sweep.cells
        self.news = self._looks_since(sweep)
        self._complete, self._open = False, {}
        waited_for = [c for c in self.cells if c.state == "failed" and c.run.run_id in self._again]
        for cell in [*due_cells.to_train(self.cells, retry_failed=False), *waited_for]:
            runs = self._open.setdefault(cell.run.configuration.configuration_id, set())
            runs.add(cell.run.run_id)
        todo = [
            cell
            for cell in due_cells.to_train(sweep.cells, retry_failed=self.retry_failed)
            if cell.run.run_id not in self.issued
        ]
        wanted = {c.run.configuration.configuration_id for c in todo}
        parents = {
            p.configuration.configuration_id: self.store.save_configuration(
                p.configuration, p.parameters, p.number
            )
            for p in sweep.proposals
            if p.configuration.configuration_id in wanted
        }
        self.issued |= {cell.run.run_id for cell in todo}
        return due_cells.packs(todo, self.spec.resources.seeds_per_pack, parents)

    def after(self, first: Sequence[Pack], display: Display) -> Callable[[], Sequence[Pack]]:
        """A function that Tune calls for packs: first the given ones, then newly due ones."""
        pending = [first]
        # Only a Bayesian search and adaptive seeds add cells during a sweep.
        learns = self.spec.method == "bayes" or self.spec.adaptive is not None

        def packs() -> Sequence[Pack]:
            if pending:
                return pending.pop()
            # Reading a large store takes seconds, and Tune waits meanwhile.
            if not (learns and self._complete):
                return []
            found = self.next_packs()
            display.include(self.cells)
            for line in self.news:
                display.tell(line)
            return found

        return packs

    def hear(self, progress: Progress) -> None:
        """Note that a run has ended, and whether all due runs of its configuration have."""
        if progress.state not in ("done", "failed"):
            return
        # From now on the result of the second attempt counts.
        self._again.discard(progress.run_id)
        for runs in self._open.values():
            if progress.run_id in runs:
                runs.remove(progress.run_id)
                self._complete = self._complete or not runs

    def _looks_since(self, sweep: Sweep[SweepSpec]) -> list[str]:
        """Lines about the looks that were taken since the last call."""
        taken = {
            (p.configuration.configuration_id, look.number): adaptive_seeds.told(self.spec, p, look)
            for p in sweep.proposals
            for look in sweep.due[p.configuration.configuration_id].looks
        }
        new = [line for place, line in taken.items() if place not in (self._told or ())]
        former, self._told = self._told, {*taken}
        return new if former is not None else []


def _give_up(store: Store, pack: Pack, reason: str) -> None:
    traces = store.traces()
    for seed in pack.seeds:
        run = RunSpec(configuration=pack.configuration, seed=seed)
        trace = traces.get(run.run_id)
        if trace is None or trace.state not in ("done", "failed"):
            tracking_run = store.start_run(run, pack.parent_run, {})
            store.fail(tracking_run, f"given up: {reason}", final=False)


def _git_commit() -> str:
    """The git commit of the working directory; empty outside a repository."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def resolved(content: Mapping[str, Any], spec: SweepSpec) -> dict[str, Any]:
    """The experiment file with absolute paths, as the store keeps it."""
    places = {"dataset": _resolved(spec.dataset), "storage_path": spec.storage_path}
    if spec.artifacts is not None:
        places["artifacts"] = spec.artifacts
    if spec.plant is not None and spec.plant.ood_far is not None:
        far = {**content["plant"]["ood_far"], "dataset": _resolved(spec.plant.ood_far.dataset)}
        places["plant"] = {**content["plant"], "ood_far": far}
    return {**content, **places}


def _resolved(options: DatasetOptions) -> dict[str, Any]:
    dataset = {f.name: getattr(options, f.name) for f in fields(DatasetOptions)}
    root = dataset["root"]
    dataset["root"] = os.path.abspath(os.path.expanduser(root)) if root else None  # noqa: PTH100, PTH111
    if isinstance(dataset["cache"], str):
        dataset["cache"] = str(options.cache_place)
    return {k: v for k, v in dataset.items() if v is not None}
