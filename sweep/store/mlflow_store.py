"""Runs, tags, metrics and artifacts in MLflow, which no other file imports.

A sweep is one MLflow experiment. Its runs have a tag ``role``: one ``sweep`` (the resolved
experiment file), one ``aggregate`` (tables and figures), one ``configuration`` per configuration
and below it one ``run`` per seed.
"""

import contextlib
import errno
import functools
import json
import os
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.request import url2pathname

from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from requests.exceptions import HTTPError, RequestException
from sqlalchemy.exc import SQLAlchemyError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from sweep.errors import Mistake, NoSuchSweep, TrackerAway, TrackerError, hidden
from sweep.experiment.addresses import OFFLINE, SQLITE, below, checked, located
from sweep.experiment.runs import Configuration, RunSpec, State, Trace
from sweep.store.opening import check_reachable, one_process_at_a_time
from sweep.store.run_records import (
    KnownConfiguration,
    Tracked,
    as_sweep_wrote,
    configuration_name,
    configuration_tags,
    flat,
    known_configuration,
    run_tags,
    trace_of,
)
from sweep.store.run_store import inside

RESOLVED = "experiment.json"
# Tag of a run that was trained elsewhere.
ADOPTED = "adopted"
_PAGE = 1000
_DRIVER = "driver"
# Tag that identifies a run within its role; empty for a role of a single run.
_IDENTITY = {"sweep": "", "configuration": "configuration_id", "run": "run_id", "aggregate": ""}
_SERVER_ERROR = 500
_PASSING = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
_NO_ROOM = os.strerror(errno.ENOSPC)
_P = ParamSpec("_P")
_R = TypeVar("_R")
_STATUS: dict[str, State] = {
    "RUNNING": "running",
    "SCHEDULED": "running",
    "FINISHED": "done",
    "FAILED": "failed",
}


def _patient(
    method: Callable[Concatenate["Store", _P], _R],
) -> Callable[Concatenate["Store", _P], _R]:
    """Repeat a method while the tracker is away, for at most ``patience_s`` of the store."""

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
        experiment_id: Id of the MLflow experiment that has the sweep's name.
        name: Name of the sweep.
        patience_s: Seconds to wait for a tracker that is away.
    """

    def __init__(self, uri: str, experiment_id: str, name: str, patience_s: float = 0) -> None:
        self.uri, self.experiment_id, self.name = uri, experiment_id, name
        self.patience_s = patience_s
        self.client = MlflowClient(uri)
        self._places: dict[str, str] = {}

    @classmethod
    def create(cls, uri: str, name: str, artifacts: str | None = None) -> "Store":
        """Open the sweep's experiment; create store and experiment where they are missing.

        Args:
            uri: Address of the store, as for ``Store``.
            name: Name of the sweep.
            artifacts: Address of the runs' files in an embedded store; if left out, a folder
                beside the database.

        Raises:
            Mistake: If the sweep already has its files elsewhere.
            TrackerError: If the tracker cannot be reached.
        """
        uri = checked(uri)
        check_reachable(uri)
        with one_process_at_a_time(uri), _translated(uri):
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
            NoSuchSweep: If the store has no sweep of that name. The text lists its sweeps.
            TrackerError: If the tracker cannot be reached.
        """
        uri = checked(uri)
        path = Path(uri.removeprefix(SQLITE))
        if uri.startswith("sqlite:") and not path.exists():
            raise NoSuchSweep(f"no tracking store at {path}; run a sweep here first")
        check_reachable(uri)
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
            uri: Address of the store; if left out, the database in the working directory, and
                after it the store of sweeps trained offline from here.
            name: Name of the sweep.

        Raises:
            NoSuchSweep: If no such sweep is found.
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
        # Another process gets the arguments and opens the store itself.
        return type(self), (*self.address, self.patience_s)

    @property
    def address(self) -> tuple[str, str, str]:
        """The arguments that open this store in another process."""
        return self.uri, self.experiment_id, self.name

    @_patient
    def save_sweep(self, content: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Save the resolved experiment file in the sweep's run of ``role=sweep``."""
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
            Mistake: If the file cannot be read.
        """
        run = self.sweep_run()[0]
        with as_sweep_wrote(f"an experiment in {RESOLVED}", run, self.name):
            content = json.loads(self.read_text(run, RESOLVED))
            if not isinstance(content, dict):
                raise TypeError(type(content).__name__)
        return content

    def sweep_run(self) -> tuple[str, dict[str, str]]:
        """The tracking id of the sweep's own run, and the tags given to ``save_sweep``.

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
        condition = f"configuration_id = '{configuration.configuration_id}'"
        with _translated(self.uri):
            run = self._one("role = 'configuration'", condition)
            if run is None:
                name = configuration_name(configuration, parameters)
                run = self._new(name, configuration_tags(configuration, parameters, number))
            self._params(run, flat(configuration))
            self.client.set_terminated(run, "FINISHED")
        return run

    @_patient
    def configurations(self) -> list[KnownConfiguration]:
        """All configurations of the sweep, in the order of proposal.

        Raises:
            Mistake: If a configuration cannot be read.
        """
        with _translated(self.uri):
            runs = list(self._runs("role = 'configuration'"))
        found = [known_configuration(run.data.tags, run.info.run_id, self.name) for run in runs]
        return sorted(found, key=lambda k: k.number)

    @_patient
    def start_run(self, run: RunSpec, parent: str, tags: Mapping[str, str]) -> str:
        """Get or create the tracking run of a ``RunSpec`` and mark it running."""
        all_tags = {**run_tags(run), "mlflow.parentRunId": parent, **tags}
        which = ("role = 'run'", f"run_id = '{run.run_id}'")
        with _translated(self.uri):
            found = [*self._runs(*which)]
            if not found:
                self._new(f"seed {run.seed}", all_tags)
                # Asked again: a server that died before it answered may have made two.
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
        """Mark a run failed with its reason; it is started again unless the failure is final."""
        with _translated(self.uri):
            self.client.set_tag(tracking_run, "failure", hidden(reason)[:4000])
            self.client.set_tag(tracking_run, "failure.final", str(final).lower())
            self.client.set_terminated(tracking_run, "FAILED")

    @_patient
    def tidy(self) -> None:
        """End all running runs, and mark duplicates.

        Only for the sweep's one driver, before its workers start.
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
        """The driver's claim, as ``sweep.store.ownership`` wrote it; empty without a driver."""
        with _translated(self.uri):
            return str(self.client.get_experiment(self.experiment_id).tags.get(_DRIVER, ""))

    def write_driver(self, text: str) -> None:
        """Replace the driver's claim."""
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
        """What the store knows of one run of the sweep; None if there is no such run."""
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
        """Copy one artifact below a local folder, under the same name; returns its path.

        Args:
            tracking_run: Tracking id of the run.
            name: Name of the file in the run's manifest.
            folder: Folder that receives the file.

        Raises:
            TrackerError: If the run has no such artifact, or the tracker cannot be reached.
        """
        target = folder / inside(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Kinds of store differ in where they put a nested name below the target folder.
        with tempfile.TemporaryDirectory(dir=folder) as scratch, _translated(self.uri):
            artifacts = self._artifacts(tracking_run)
            try:
                fetched: str = artifacts.download_artifacts(name, scratch)  # type: ignore[no-untyped-call]
            except MlflowException:
                # MLflow raises one error for all causes. A listing shows a missing file.
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
        """A run's name, times, parameters, tags and metrics, without its files."""
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
        """Get or create the copy of a run of another store, marked as cut off."""
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
        """Ids of runs copied from another store and not trained here since."""
        with _translated(self.uri):
            runs = self._runs("role = 'run'", f"{ADOPTED} = 'true'")
            return frozenset(run.data.tags["run_id"] for run in runs)

    def log_points(self, tracking_run: str, points: Sequence[tuple[str, float, int, int]]) -> None:
        """Log a copied run's points; logging the same point again leaves no second one."""
        with _translated(self.uri):
            for start in range(0, len(points), _PAGE):
                batch = [Metric(*point) for point in points[start : start + _PAGE]]
                self.client.log_batch(tracking_run, metrics=batch)

    def end_as(self, tracking_run: str, state: State, run: "Tracked") -> None:
        """End a copied run in the state of the original; an unfinished one is cut off."""
        status = {"done": "FINISHED", "failed": "FAILED"}.get(state, "KILLED")
        with _translated(self.uri):
            self.client.set_terminated(tracking_run, status, run.ended_ms)

    @_patient
    def aggregate_run(self) -> str:
        """Get or create the sweep's run of ``role=aggregate`` and mark it running."""
        with _translated(self.uri):
            run = self._one("role = 'aggregate'") or self._new("aggregate", {"role": "aggregate"})
            self.client.update_run(run, status="RUNNING")
        return run

    @_patient
    def upload_folder(self, tracking_run: str, folder: Path, skip: Collection[str] = ()) -> None:
        """Store a folder's content among a run's artifacts, without the names in ``skip``."""
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
        """The folder with a run's artifacts, if this machine can read them there."""
        with _translated(self.uri):
            uri = self._place(tracking_run)
        if not uri.startswith("file://"):
            return None
        folder = Path(url2pathname(urllib.parse.urlsplit(uri).path))
        return folder if folder.is_dir() else None

    def _place(self, tracking_run: str) -> str:
        """The address of a run's artifacts, cached because it never changes."""
        if tracking_run not in self._places:
            uri = self.client.get_run(tracking_run).info.artifact_uri
            self._places[tracking_run] = uri or ""
        return self._places[tracking_run]

    def _artifacts(self, tracking_run: str) -> ArtifactRepository:
        """The repository of a run's artifacts.

        MLflow's client would ask for the run before each file, and would report a server that is
        away as a missing file.
        """
        return get_artifact_repository(self._place(tracking_run), tracking_uri=self.uri)

    def _trace(self, run: Run) -> Trace:
        state = _STATUS.get(run.info.status, "missing")
        return trace_of(self, run.info.run_id, state, run.data.tags, run.data.metrics)

    def _runs(self, *conditions: str) -> Iterator[Run]:
        """Runs whose tags fulfil all conditions, oldest first."""
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
        """The run that counts among duplicates; the others are marked as duplicates."""
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
    """Turn errors of MLflow and its transport into one ``TrackerError`` that names the tracker."""
    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError) as error:
        if _NO_ROOM in str(error):
            # The disk of this machine is full, to which an artifact was copied.
            raise OSError(errno.ENOSPC, _NO_ROOM) from error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        # A failed transfer is named in the first line, and its cause in the next ones.
        said = " ".join(lines) if lines[0].endswith(":") else lines[0]
        kind = TrackerAway if _passing(error) else TrackerError
        # No cause is kept, since it quotes the address with its credentials.
        raise kind(hidden(f"tracker {uri}: {said[:400]}")) from None


def _passing(error: MlflowException | RequestException | SQLAlchemyError) -> bool:
    """Whether trying again later may help."""
    if isinstance(error, HTTPError) and error.response is not None:
        return error.response.status_code >= _SERVER_ERROR
    if isinstance(error, MlflowException):
        return error.error_code in _PASSING
    return isinstance(error, RequestException)


def _kept(same: Sequence[Run]) -> Run:
    """The run that counts among duplicates, sorted by age: a finished one, else the oldest."""
    return next((run for run in same if run.info.status == "FINISHED"), same[0])
