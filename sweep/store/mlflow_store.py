"""Runs, tags, metrics and artifacts in MLflow: the only file that knows it.

One experiment a sweep. In it one run of ``role=sweep`` (the resolved experiment file), one of
``role=configuration`` a configuration, under it one of ``role=run`` a seed, and one of
``role=aggregate`` (tables and figures).
"""

import contextlib
import errno
import fcntl
import functools
import json
import math
import os
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.request import url2pathname

import requests
from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from requests.exceptions import HTTPError, RequestException
from sqlalchemy.exc import SQLAlchemyError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from hardness.files import UNREADABLE, Damaged
from sweep.errors import Mistake, NoSuchSweep, TrackerAway, TrackerError, hidden
from sweep.experiment.addresses import OFFLINE, SQLITE, below, checked, located
from sweep.experiment.runs import Configuration, RunSpec, State, Trace, canonical_json, shown_values
from sweep.store.run_records import KnownConfiguration, Tracked, cut_off, flat, identity_tags, short
from sweep.store.run_store import inside, manifest_of

RESOLVED = "experiment.json"
# Tag of a run that was trained elsewhere.
ADOPTED = "adopted"
_PAGE = 1000
_DRIVER = "driver"
# What sets apart the runs of a role; there is one of each other role.
_IDENTITY = {"sweep": "", "configuration": "configuration_id", "run": "run_id", "aggregate": ""}
_SERVER_ERROR = 500
_PASSING = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
_NO_ROOM = os.strerror(errno.ENOSPC)
_P = ParamSpec("_P")
_R = TypeVar("_R")
_STATUS = {"RUNNING": "running", "SCHEDULED": "running", "FINISHED": "done", "FAILED": "failed"}


def _patient(
    method: Callable[Concatenate["Store", _P], _R],
) -> Callable[Concatenate["Store", _P], _R]:
    """Ask again while the tracker is away, for as long as the store's patience lasts."""

    @functools.wraps(method)
    def asked(self: "Store", /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        again = Retrying(
            retry=retry_if_exception_type(TrackerAway),
            wait=wait_random_exponential(multiplier=0.5, max=5),
            stop=stop_after_delay(self.patience_s),
            reraise=True,
        )
        return again(method, self, *args, **kwargs)

    return asked


class Store:
    """One sweep's runs.

    Args:
        uri: ``sqlite:///`` and an absolute path, or ``http(s)://``.
        experiment_id: Of the MLflow experiment that bears the sweep's name.
        name: The sweep's name.
        patience_s: How long to wait for a tracker that is away.
    """

    def __init__(self, uri: str, experiment_id: str, name: str, patience_s: float = 0) -> None:
        self.uri, self.experiment_id, self.name = uri, experiment_id, name
        self.patience_s = patience_s
        self.client = MlflowClient(uri)
        self._places: dict[str, str] = {}

    @classmethod
    def create(cls, uri: str, name: str, artifacts: str | None = None) -> "Store":
        """Open the sweep's experiment, making store and experiment where they are missing.

        Of drivers that find a SQLite file missing at the same time one makes it.

        Args:
            uri: As of a store.
            name: The sweep's name.
            artifacts: Where the files of its runs go, of an embedded store; beside the database,
                if left out.

        Raises:
            Mistake: If the sweep has its files elsewhere already.
            TrackerError: If the tracker cannot be reached.
        """
        uri = checked(uri)
        _check_reachable(uri)
        with _migrating(uri), _translated(uri):
            client = MlflowClient(uri)
            found = client.get_experiment_by_name(name)
        with _translated(uri):
            if found is not None and found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            wanted = artifacts and below(artifacts, name)
            if found and wanted and found.artifact_location != wanted:
                raise Mistake(
                    f"artifacts: expected {hidden(found.artifact_location)}, where the sweep "
                    f"{name} has its files; got {hidden(wanted)}"
                )
            experiment_id = (
                found.experiment_id if found else _new_experiment(client, uri, name, wanted)
            )
        return cls(uri, experiment_id, name)

    @classmethod
    def find(cls, uri: str, name: str) -> "Store":
        """Open an existing sweep.

        Raises:
            NoSuchSweep: If the store has none of that name; lists those that it has.
            TrackerError: If the tracker cannot be reached.
        """
        uri = checked(uri)
        path = Path(uri.removeprefix(SQLITE))
        if uri.startswith("sqlite:") and not path.exists():
            raise NoSuchSweep(f"no tracking store at {path}; run a sweep here first")
        _check_reachable(uri)
        with _translated(uri):
            client = MlflowClient(uri)
            found = client.get_experiment_by_name(name)
            if found is None:
                names = sorted(e.name for e in client.search_experiments() if e.name != "Default")
                known = ", ".join(names) or "none"
                raise NoSuchSweep(f"no sweep named {name!r} in {hidden(uri)}; known: {known}")
        return cls(uri, found.experiment_id, name)

    @classmethod
    def known_as(cls, uri: str | None, name: str) -> "Store":
        """Open the sweep that a command names.

        Args:
            uri: Where it is; if left out, the working directory's database, else what was trained
                offline from here.
            name: The sweep's name.

        Raises:
            NoSuchSweep: If it is not there.
            TrackerError: If the tracker cannot be reached.
        """
        try:
            return cls.find(located(uri), name)
        except NoSuchSweep:
            if uri is None:
                with contextlib.suppress(NoSuchSweep):
                    return cls.find(located(OFFLINE), name)
            raise

    def __reduce__(self) -> tuple[type["Store"], tuple[str, str, str, float]]:
        # A store travels to other processes as what opens it there.
        return type(self), (*self.address, self.patience_s)

    @property
    def address(self) -> tuple[str, str, str]:
        """The arguments that open it once more, in another process."""
        return self.uri, self.experiment_id, self.name

    @_patient
    def save_sweep(self, content: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Keep the resolved experiment file, in the sweep's one run of ``role=sweep``."""
        with _translated(self.uri):
            run = self._one("role = 'sweep'") or self._new("sweep", {"role": "sweep", **tags})
            for key, value in tags.items():
                self.client.set_tag(run, key, value)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / RESOLVED
                path.write_text(json.dumps(content, indent=1))
                self.client.log_artifact(run, str(path))
            self.client.set_terminated(run, "FINISHED")

    def read_sweep(self) -> dict[str, Any]:
        """The resolved experiment file.

        Raises:
            NoSuchSweep: If the experiment holds no sweep.
            Mistake: If what it holds cannot be read.
        """
        run = self.sweep_run()[0]
        with self._as_written(run, f"an experiment in {RESOLVED}"):
            content = json.loads(self.read_text(run, RESOLVED))
            if not isinstance(content, dict):
                raise TypeError(type(content).__name__)
        return content

    def sweep_run(self) -> tuple[str, dict[str, str]]:
        """The tracking id of the sweep's own run, and what ``save_sweep`` tagged it with.

        Raises:
            NoSuchSweep: If the experiment holds no sweep.
        """
        with _translated(self.uri):
            run = next(self._runs("role = 'sweep'"), None)
        if run is None:
            raise NoSuchSweep(f"the experiment {self.name!r} holds no sweep")
        tags = run.data.tags.items()
        return run.info.run_id, {
            k: v for k, v in tags if k != "role" and not k.startswith("mlflow.")
        }

    @_patient
    def save_configuration(
        self, configuration: Configuration, parameters: Mapping[str, Any], number: int
    ) -> str:
        """Get or create a configuration's run; returns its tracking id."""
        tags = {
            "role": "configuration",
            "configuration": canonical_json(configuration),
            "parameters": json.dumps(dict(parameters), sort_keys=True),
            "number": str(number),
            **identity_tags(configuration),
        }
        condition = f"configuration_id = '{configuration.configuration_id}'"
        with _translated(self.uri):
            run = self._one("role = 'configuration'", condition)
            if run is None:
                shown = shown_values({k: short(v) for k, v in parameters.items()})
                run = self._new(f"{configuration.regimen} {shown}".strip(), tags)
            self._params(run, flat(configuration))
            self.client.set_terminated(run, "FINISHED")
        return run

    @_patient
    def configurations(self) -> list[KnownConfiguration]:
        """All configurations of the sweep, in the order of proposal.

        Raises:
            Mistake: If one of them cannot be read.
        """
        with _translated(self.uri):
            runs = list(self._runs("role = 'configuration'"))
        return sorted(map(self._configuration, runs), key=lambda k: k.number)

    @_patient
    def start_run(self, run: RunSpec, parent: str, tags: Mapping[str, str]) -> str:
        """Get or create the tracking run of a ``RunSpec`` and mark it running."""
        all_tags = {
            "role": "run",
            "run_id": run.run_id,
            "mlflow.parentRunId": parent,
            **identity_tags(run.configuration),
            **tags,
        }
        which = ("role = 'run'", f"run_id = '{run.run_id}'")
        with _translated(self.uri):
            found = [*self._runs(*which)]
            if not found:
                self._new(f"seed {run.seed}", all_tags)
                # A server that dies between storing and answering is asked again by the transport.
                found = [*self._runs(*which)]
            kept = self._only(found)
            tracking_run = kept.info.run_id
            for tag in ("failure", "failure.final", ADOPTED):
                if tag in kept.data.tags:
                    self.client.delete_tag(tracking_run, tag)
            self.client.update_run(tracking_run, status="RUNNING")
            self._params(tracking_run, {**flat(run.configuration), "seed": run.seed})
        return tracking_run

    def log_epoch(self, tracking_run: str, epoch: int, summary: Mapping[str, float]) -> None:
        """Log an epoch's numbers; logging the same epoch again leaves no second point."""
        metrics = [Metric(k, v, epoch, epoch) for k, v in {**summary, "epoch": epoch}.items()]
        with _translated(self.uri):
            self.client.log_batch(tracking_run, metrics=metrics)

    @_patient
    def log_metrics(self, tracking_run: str, metrics: Mapping[str, float]) -> None:
        """Log numbers that belong to no epoch, overwriting what was logged before."""
        now = int(time.time() * 1000)
        batch = [Metric(k, v, now, 0) for k, v in metrics.items()]
        with _translated(self.uri):
            self.client.log_batch(tracking_run, metrics=batch)

    @_patient
    def finish(self, tracking_run: str) -> None:
        """Mark a run done."""
        with _translated(self.uri):
            self.client.set_terminated(tracking_run, "FINISHED")

    @_patient
    def fail(self, tracking_run: str, reason: str, *, final: bool) -> None:
        """Mark a run failed with its reason; one that is not final is started again next time."""
        with _translated(self.uri):
            self.client.set_tag(tracking_run, "failure", hidden(reason)[:4000])
            self.client.set_tag(tracking_run, "failure.final", str(final).lower())
            self.client.set_terminated(tracking_run, "FAILED")

    @_patient
    def tidy(self) -> None:
        """Let no run look as if it were at work, and none stand there twice.

        Only for the one driver of the sweep, while no worker of its own is at work.
        """
        with _translated(self.uri):
            for role, identity in _IDENTITY.items():
                same: dict[str, list[Run]] = {}
                for run in self._runs(f"role = '{role}'"):
                    same.setdefault(run.data.tags.get(identity, ""), []).append(run)
                for kept in map(self._only, same.values()):
                    if kept.info.status in ("RUNNING", "SCHEDULED"):
                        self.client.set_terminated(kept.info.run_id, "KILLED")

    def read_driver(self) -> str:
        """Who drives the sweep, as ``sweep.ownership`` wrote it; empty if nobody does."""
        with _translated(self.uri):
            return str(self.client.get_experiment(self.experiment_id).tags.get(_DRIVER, ""))

    def write_driver(self, text: str) -> None:
        """Say who drives the sweep."""
        with _translated(self.uri):
            self.client.set_experiment_tag(self.experiment_id, _DRIVER, text)

    @_patient
    def traces(self) -> dict[str, Trace]:
        """What the store knows of every run of the sweep, by ``run_id``."""
        with _translated(self.uri):
            runs = list(self._runs("role = 'run'"))
        same: dict[str, list[Run]] = {}
        for run in runs:
            same.setdefault(run.data.tags["run_id"], []).append(run)
        return {run_id: self._trace(_kept(found)) for run_id, found in same.items()}

    @_patient
    def trace(self, run_id: str) -> Trace | None:
        """What the store knows of one run of the sweep; None if it has none of that ``run_id``."""
        with _translated(self.uri):
            found = [*self._runs("role = 'run'", f"run_id = '{run_id}'")]
        return self._trace(_kept(found)) if found else None

    @_patient
    def files(self, tracking_run: str) -> dict[str, int]:
        """Names and sizes of a run's artifacts."""
        found: dict[str, int] = {}
        folders: list[str | None] = [None]
        with _translated(self.uri):
            artifacts = self._artifacts(tracking_run)
            while folders:
                for file in artifacts.list_artifacts(folders.pop()):
                    if ".." in file.path.split("/") or file.path.startswith("/"):
                        raise TrackerError(f"expected artifacts of a run; got {file.path!r}")
                    if file.is_dir:
                        folders.append(file.path)
                    else:
                        found[file.path] = file.file_size or 0
        return found

    def upload(self, tracking_run: str, path: Path, name: str) -> None:
        """Store a local file under an artifact name, replacing an older one."""
        folder = inside(name).rpartition("/")[0]
        assert path.name == name.rpartition("/")[2]
        with _translated(self.uri):
            self.client.log_artifact(tracking_run, str(path), folder or None)

    @_patient
    def download(self, tracking_run: str, name: str, folder: Path) -> Path:
        """Fetch one artifact below ``folder``.

        Args:
            tracking_run: Its run.
            name: As in the run's manifest.
            folder: Where it goes, under the same name.

        Raises:
            TrackerError: If the run has no such artifact, or the tracker cannot be reached.
        """
        target = folder / inside(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Where MLflow puts a nested name below its target differs between kinds of store.
        with tempfile.TemporaryDirectory(dir=folder) as scratch, _translated(self.uri):
            artifacts = self._artifacts(tracking_run)
            try:
                fetched: str = artifacts.download_artifacts(name, scratch)  # type: ignore[no-untyped-call]
            except MlflowException:
                # In one form, whatever went wrong; a listing tells what is not there from the rest.
                if name not in self.files(tracking_run):
                    raise TrackerError(
                        f"tracker {hidden(self.uri)}: expected {name} among the artifacts of run "
                        f"{tracking_run}; there is none"
                    ) from None
                raise
            Path(fetched).replace(target)
        return target

    def read_text(self, tracking_run: str, name: str) -> str:
        """The text of a small artifact."""
        with tempfile.TemporaryDirectory() as folder:
            return self.download(tracking_run, name, Path(folder)).read_text()

    def tracked(self, tracking_run: str) -> "Tracked":
        """Everything of a run but its files."""
        with _translated(self.uri):
            run = self.client.get_run(tracking_run)
            points = [
                (m.key, m.value, m.timestamp, m.step)
                for key in run.data.metrics
                for m in self.client.get_metric_history(tracking_run, key)
            ]
        tags = {k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.")}
        return Tracked(
            name=run.info.run_name or "",
            started_ms=run.info.start_time,
            ended_ms=run.info.end_time,
            params=dict(run.data.params),
            tags=tags,
            points=points,
        )

    def adopt(self, run: "Tracked", parent: str) -> str:
        """Get or create the place of a run of another store, marked as cut off."""
        tags = {**run.tags, "mlflow.parentRunId": parent, ADOPTED: "true"}
        trace = self.trace(run.tags["run_id"])
        with _translated(self.uri):
            if trace is None:
                found = self.client.create_run(
                    self.experiment_id, run.started_ms, tags=tags, run_name=run.name
                )
            else:
                found = self.client.get_run(trace.tracking_run)
            adopted = found.info.run_id
            for tag in {"failure", "failure.final"} & found.data.tags.keys():
                self.client.delete_tag(adopted, tag)
            self.client.set_terminated(adopted, "KILLED", run.ended_ms)
            known = found.data.params
            self._params(adopted, {k: v for k, v in run.params.items() if k not in known})
            self.client.log_batch(adopted, tags=[RunTag(k, v) for k, v in tags.items()])
        return adopted

    def adopted(self) -> frozenset[str]:
        """Runs that were brought from another store and not trained here since, by ``run_id``."""
        with _translated(self.uri):
            runs = self._runs("role = 'run'", f"{ADOPTED} = 'true'")
            return frozenset(run.data.tags["run_id"] for run in runs)

    def log_points(self, tracking_run: str, points: Sequence[tuple[str, float, int, int]]) -> None:
        """Log points of metrics as another store has them; the same once more leaves no second."""
        with _translated(self.uri):
            for start in range(0, len(points), _PAGE):
                batch = [Metric(*point) for point in points[start : start + _PAGE]]
                self.client.log_batch(tracking_run, metrics=batch)

    def end_as(self, tracking_run: str, state: State, run: "Tracked") -> None:
        """Give a run the state that it has elsewhere; one that is not over was cut off."""
        status = {"done": "FINISHED", "failed": "FAILED"}.get(state, "KILLED")
        with _translated(self.uri):
            self.client.set_terminated(tracking_run, status, run.ended_ms)

    @_patient
    def aggregate_run(self) -> str:
        """The sweep's run of ``role=aggregate``, marked running."""
        with _translated(self.uri):
            run = self._one("role = 'aggregate'") or self._new("aggregate", {"role": "aggregate"})
            self.client.update_run(run, status="RUNNING")
        return run

    @_patient
    def upload_folder(self, tracking_run: str, folder: Path, skip: Collection[str] = ()) -> None:
        """Store a folder's content at the root of a run's artifacts, but for names in ``skip``."""
        with _translated(self.uri):
            for path in sorted(folder.iterdir()):
                if path.name in skip or path.name.startswith("."):
                    continue
                if path.is_dir():
                    self.client.log_artifacts(tracking_run, str(path), path.name)
                else:
                    self.client.log_artifact(tracking_run, str(path))

    @_patient
    def local_folder(self, tracking_run: str) -> Path | None:
        """Where a run's artifacts lie, if they are files that this machine can read."""
        with _translated(self.uri):
            uri = self._place(tracking_run)
        if not uri.startswith("file://"):
            return None
        folder = Path(url2pathname(urllib.parse.urlsplit(uri).path))
        return folder if folder.is_dir() else None

    def _place(self, tracking_run: str) -> str:
        """The address of a run's artifacts, which stays what it is."""
        if tracking_run not in self._places:
            uri = self.client.get_run(tracking_run).info.artifact_uri
            self._places[tracking_run] = uri or ""
        return self._places[tracking_run]

    def _artifacts(self, tracking_run: str) -> ArtifactRepository:
        """A run's artifacts, where they are.

        MLflow's client would ask for the run before each listing and each file, and for models of
        it afterwards, and tell of a server that has gone away as of a file that was never there.
        """
        return get_artifact_repository(self._place(tracking_run), tracking_uri=self.uri)

    def _configuration(self, run: Run) -> KnownConfiguration:
        tags = run.data.tags
        with self._as_written(run.info.run_id, "a configuration in its tags"):
            configuration = Configuration.from_json(tags["configuration"])
            if configuration.configuration_id != tags["configuration_id"]:
                raise ValueError(f"one whose identity is {configuration.configuration_id}")
            return KnownConfiguration(
                configuration=configuration,
                parameters={**json.loads(tags["parameters"])},
                number=int(tags["number"]),
                tracking_run=run.info.run_id,
            )

    @contextlib.contextmanager
    def _as_written(self, tracking_run: str, what: str) -> Iterator[None]:
        """Anybody may write into a tracker: what others wrote is told as theirs."""
        try:
            yield
        except UNREADABLE as error:
            if isinstance(error, Mistake | OSError):
                raise
            raise Mistake(
                f"sweep {self.name}: expected {what} of MLflow run {tracking_run}, as sweep wrote "
                f"it; got {type(error).__name__}: {error}; mend or delete that run"
            ) from error

    def _trace(self, run: Run) -> Trace:
        tags, state = run.data.tags, _STATUS.get(run.info.status, "missing")
        last = run.data.metrics.get("epoch", -1)
        epochs = int(last) + 1 if math.isfinite(last) else 0
        base = {"tracking_run": run.info.run_id, "epochs": epochs}
        if state == "failed":
            final = tags.get("failure.final") != "false"
            reason = tags.get("failure", "no reason was recorded")
            return Trace(state="failed", reason=reason, final=final, **base)
        if state == "running":
            return Trace(state="running", **base)
        if state != "done":
            return Trace(state="missing", reason=cut_off(epochs), **base)
        try:
            manifest = manifest_of(self, run.info.run_id)
        except Damaged as error:
            return Trace(state="missing", reason=str(error), **base)
        return Trace(
            state="done",
            signals=frozenset(manifest.signals),
            passes=manifest.passes,
            objectives=dict(run.data.metrics),
            **base,
        )

    def _runs(self, *conditions: str) -> Iterator[Run]:
        """Runs whose tags fulfil all conditions, the oldest first."""
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                " and ".join(f"tags.{c}" for c in conditions),
                ViewType.ACTIVE_ONLY,
                _PAGE,
                ["attributes.start_time ASC", "attributes.run_id ASC"],
                token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def _one(self, *conditions: str) -> str | None:
        return next((run.info.run_id for run in self._runs(*conditions)), None)

    def _only(self, same: Sequence[Run]) -> Run:
        """The one of these that counts; the others are marked, so that nobody counts them."""
        kept = _kept(same)
        for run in same:
            if run is not kept:
                self.client.set_terminated(run.info.run_id, "KILLED")
                tags = {"role": "duplicate", "duplicate_of": kept.info.run_id}
                self.client.log_batch(run.info.run_id, tags=[RunTag(k, v) for k, v in tags.items()])
        return kept

    def _new(self, name: str, tags: Mapping[str, str]) -> str:
        run = self.client.create_run(self.experiment_id, tags=dict(tags), run_name=name)
        return run.info.run_id

    def _params(self, run: str, params: Mapping[str, Any]) -> None:
        batch = [Param(k, str(v)) for k, v in params.items()]
        for start in range(0, len(batch), 100):
            self.client.log_batch(run, params=batch[start : start + 100])

    @_patient
    def set_tags(self, tracking_run: str, tags: Mapping[str, str]) -> None:
        """Set or replace tags."""
        with _translated(self.uri):
            self.client.log_batch(tracking_run, tags=[RunTag(k, v) for k, v in tags.items()])


def _check_reachable(uri: str) -> None:
    """Ask an HTTP tracker for a sign of life before MLflow begins its slow retries."""
    if uri.startswith("http"):
        try:
            requests.get(uri.rstrip("/") + "/health", timeout=10).raise_for_status()
        except RequestException as error:
            raise TrackerError(
                f"tracker {hidden(uri)} does not answer ({type(error).__name__}); start it "
                "(mlflow server) or correct tracking_uri"
            ) from None


@contextlib.contextmanager
def _migrating(uri: str) -> Iterator[None]:
    """One process at a time, of one machine, where a SQLite file may have to be made."""
    if not uri.startswith(SQLITE):
        yield
        return
    place = Path(uri.removeprefix(SQLITE)).parent
    place.mkdir(parents=True, exist_ok=True)
    # The folder is locked: a file for it would stay behind. Closing it unlocks.
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # NFS locks no folders
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _new_experiment(client: MlflowClient, uri: str, name: str, location: str | None) -> str:
    if location is None and uri.startswith(SQLITE):
        artifacts = Path(uri.removeprefix(SQLITE)).parent / "mlartifacts"
        location = below(artifacts.as_uri(), name)
    try:
        return client.create_experiment(name, artifact_location=location)
    except MlflowException:
        # Another driver was faster.
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found.experiment_id


@contextlib.contextmanager
def _translated(uri: str) -> Iterator[None]:
    """Turn what MLflow and its transport raise into one error that says which tracker."""
    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError) as error:
        if _NO_ROOM in str(error):
            # Of this machine's disk, onto which an artifact was fetched.
            raise OSError(errno.ENOSPC, _NO_ROOM) from error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        # Of a transfer that failed, the first line says which one, and the next ones say why.
        said = " ".join(lines) if lines[0].endswith(":") else lines[0]
        kind = TrackerAway if _passing(error) else TrackerError
        # Without its cause, which quotes the address with its credentials.
        raise kind(hidden(f"tracker {uri}: {said[:400]}")) from None


def _passing(error: MlflowException | RequestException | SQLAlchemyError) -> bool:
    """Whether the same question may be answered later."""
    if isinstance(error, HTTPError) and error.response is not None:
        return error.response.status_code >= _SERVER_ERROR
    if isinstance(error, MlflowException):
        return error.error_code in _PASSING
    return isinstance(error, RequestException)


def _kept(same: Sequence[Run]) -> Run:
    """Of runs of one identity, the oldest first: a finished one counts, else the oldest."""
    return next((run for run in same if run.info.status == "FINISHED"), same[0])
