"""Runs, tags, metrics and artifacts in MLflow: the only file that knows it.

One experiment a sweep. In it one run of ``role=sweep`` (the resolved experiment file), one of
``role=configuration`` a configuration, under it one of ``role=run`` a seed, and one of
``role=aggregate`` (tables and figures).
"""

import contextlib
import json
import os
import tempfile
import time
import urllib.parse
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

# Read when MLflow is imported: no telemetry, no bars per artifact, no half-hour of silent retries.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}.items():
    os.environ.setdefault(_name, _value)

import requests  # noqa: E402
from mlflow.entities import Metric, Param, Run, RunTag, ViewType  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402
from requests.exceptions import RequestException  # noqa: E402
from sqlalchemy.exc import SQLAlchemyError  # noqa: E402

from hardness.dynamics import MANIFEST, Damaged, Manifest  # noqa: E402
from sweep.mistake import Mistake, folder_bar  # noqa: E402
from sweep.spec import Configuration, RunSpec, Trace, canonical_json  # noqa: E402

RESOLVED = "experiment.json"
_PAGE = 1000
_SQLITE = b"SQLite format 3\0"
_STATUS = {"RUNNING": "running", "SCHEDULED": "running", "FINISHED": "done", "FAILED": "failed"}


class TrackerError(Mistake, OSError):
    """The tracker did not answer or refused; trying again may help."""


class NoSuchSweep(Mistake, LookupError):  # noqa: N818 - it states what the store said
    """The store has no sweep of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownConfiguration:
    """A configuration's run in the store.

    Args:
        configuration: Read back from its tag.
        parameters: The searched values that led to it.
        number: In the order of proposal, from 0.
        tracking_run: Its id in the store.
    """

    configuration: Configuration
    parameters: Mapping[str, Any]
    number: int
    tracking_run: str


def default_uri() -> str:
    """SQLite in the working directory, where ``mlflow ui`` looks too."""
    return f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def shown_uri(uri: str) -> str:
    """A tracking address without the password that it may carry."""
    try:
        parts = urllib.parse.urlsplit(uri)
    except ValueError:
        return f"{uri.partition(':')[0]}://…"
    if parts.password is None:
        return uri
    host = parts.netloc.rpartition("@")[2]
    return urllib.parse.urlunsplit(parts._replace(netloc=f"{parts.username}:***@{host}"))


class Store:
    """One sweep's runs.

    Args:
        uri: ``sqlite:///`` and an absolute path, or ``http(s)://``.
        experiment_id: Of the MLflow experiment that bears the sweep's name.
        name: The sweep's name.
    """

    def __init__(self, uri: str, experiment_id: str, name: str) -> None:
        self.uri, self.experiment_id, self.name = uri, experiment_id, name
        self.client = MlflowClient(uri)

    @classmethod
    def create(cls, uri: str, name: str) -> "Store":
        """Open the sweep's experiment, making store and experiment where they are missing.

        Only the driver may call it: two processes that migrate a fresh SQLite file collide.

        Raises:
            TrackerError: If the tracker cannot be reached.
        """
        uri = _located(uri)
        _check_reachable(uri)
        with _translated(uri):
            client = MlflowClient(uri)
            found = client.get_experiment_by_name(name)
            if found is not None and found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            experiment_id = found.experiment_id if found else _new_experiment(client, uri, name)
        return cls(uri, experiment_id, name)

    @classmethod
    def find(cls, uri: str, name: str) -> "Store":
        """Open an existing sweep.

        Raises:
            NoSuchSweep: If the store has none of that name; lists those that it has.
            TrackerError: If the tracker cannot be reached.
        """
        uri = _located(uri)
        path = Path(uri.removeprefix("sqlite:///"))
        if uri.startswith("sqlite:") and not path.exists():
            raise NoSuchSweep(f"no tracking store at {path}; run a sweep here first")
        _check_reachable(uri)
        with _translated(uri):
            client = MlflowClient(uri)
            found = client.get_experiment_by_name(name)
            if found is None:
                names = sorted(e.name for e in client.search_experiments() if e.name != "Default")
                known = ", ".join(names) or "none"
                raise NoSuchSweep(f"no sweep named {name!r} in {shown_uri(uri)}; known: {known}")
        return cls(uri, found.experiment_id, name)

    @property
    def address(self) -> tuple[str, str, str]:
        """The arguments that open it once more, in another process."""
        return self.uri, self.experiment_id, self.name

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
        """
        run = self._one("role = 'sweep'")
        if run is None:
            raise NoSuchSweep(f"the experiment {self.name!r} holds no sweep")
        return json.loads(self.read_text(run, RESOLVED))

    def save_configuration(
        self, configuration: Configuration, parameters: Mapping[str, Any], number: int
    ) -> str:
        """Get or create a configuration's run; returns its tracking id."""
        tags = {
            "role": "configuration",
            "configuration": canonical_json(configuration),
            "parameters": json.dumps(dict(parameters), sort_keys=True),
            "number": str(number),
            **_identity_tags(configuration),
        }
        condition = f"configuration_id = '{configuration.configuration_id}'"
        with _translated(self.uri):
            run = self._one("role = 'configuration'", condition)
            if run is None:
                shown = ", ".join(f"{k}={_short(v)}" for k, v in parameters.items())
                run = self._new(f"{configuration.regimen} {shown}".strip(), tags)
            self._params(run, _flat(configuration))
            self.client.set_terminated(run, "FINISHED")
        return run

    def configurations(self) -> list[KnownConfiguration]:
        """All configurations of the sweep, in the order of proposal."""
        with _translated(self.uri):
            runs = list(self._runs("role = 'configuration'"))
        known = [
            KnownConfiguration(
                configuration=Configuration.from_json(run.data.tags["configuration"]),
                parameters=json.loads(run.data.tags["parameters"]),
                number=int(run.data.tags["number"]),
                tracking_run=run.info.run_id,
            )
            for run in runs
        ]
        return sorted(known, key=lambda k: k.number)

    def start_run(self, run: RunSpec, parent: str, tags: Mapping[str, str]) -> str:
        """Get or create the tracking run of a ``RunSpec`` and mark it running."""
        all_tags = {
            "role": "run",
            "run_id": run.run_id,
            "mlflow.parentRunId": parent,
            **_identity_tags(run.configuration),
            **tags,
        }
        with _translated(self.uri):
            found = self._one("role = 'run'", f"run_id = '{run.run_id}'")
            tracking_run = found or self._new(f"seed {run.seed}", all_tags)
            for tag in ("failure", "failure.final"):
                if found and tag in self.client.get_run(found).data.tags:
                    self.client.delete_tag(found, tag)
            self.client.update_run(tracking_run, status="RUNNING")
            self._params(tracking_run, {**_flat(run.configuration), "seed": run.seed})
        return tracking_run

    def log_epoch(self, tracking_run: str, epoch: int, summary: Mapping[str, float]) -> None:
        """Log an epoch's numbers; logging the same epoch again leaves no second point."""
        metrics = [Metric(k, v, epoch, epoch) for k, v in {**summary, "epoch": epoch}.items()]
        with _translated(self.uri):
            self.client.log_batch(tracking_run, metrics=metrics)

    def log_metrics(self, tracking_run: str, metrics: Mapping[str, float]) -> None:
        """Log numbers that belong to no epoch, overwriting what was logged before."""
        now = int(time.time() * 1000)
        batch = [Metric(k, v, now, 0) for k, v in metrics.items()]
        with _translated(self.uri):
            self.client.log_batch(tracking_run, metrics=batch)

    def finish(self, tracking_run: str) -> None:
        """Mark a run done."""
        with _translated(self.uri):
            self.client.set_terminated(tracking_run, "FINISHED")

    def fail(self, tracking_run: str, reason: str, *, final: bool) -> None:
        """Mark a run failed with its reason; one that is not final is started again next time."""
        with _translated(self.uri):
            self.client.set_tag(tracking_run, "failure", reason[:4000])
            self.client.set_tag(tracking_run, "failure.final", str(final).lower())
            self.client.set_terminated(tracking_run, "FAILED")

    def interrupt(self, tracking_run: str) -> None:
        """Mark a run that was cut off and will go on with the next ``sweep run``."""
        with _translated(self.uri):
            self.client.set_terminated(tracking_run, "KILLED")

    def traces(self) -> dict[str, Trace]:
        """What the store knows of every run of the sweep, by ``run_id``."""
        with _translated(self.uri):
            runs = list(self._runs("role = 'run'"))
        found: dict[str, Trace] = {}
        for run in runs:
            found.setdefault(run.data.tags["run_id"], self._trace(run))
        return found

    def trace(self, run_id: str) -> Trace | None:
        """What the store knows of one run of the sweep; None if it has none of that ``run_id``."""
        with _translated(self.uri):
            run = next(self._runs("role = 'run'", f"run_id = '{run_id}'"), None)
        return None if run is None else self._trace(run)

    def manifest(self, tracking_run: str) -> Manifest:
        """A finished run's table of contents, each of its files seen in the store.

        Raises:
            Damaged: If it is missing or unreadable, or a file it names is missing or of another
                size.
        """
        try:
            manifest = Manifest.from_json(self.read_text(tracking_run, MANIFEST))
        except TrackerError as error:
            raise Damaged(f"no {MANIFEST}") from error
        sizes = self.files(tracking_run)
        for name, (size, _) in manifest.files.items():
            if sizes.get(name) != size:
                raise Damaged(f"{name}: expected {size} bytes; the store has {sizes.get(name)}")
        return manifest

    def files(self, tracking_run: str) -> dict[str, int]:
        """Names and sizes of a run's artifacts."""
        with _translated(self.uri):
            listed = [
                f
                for folder in (None, "dynamics", "snapshots")
                for f in self.client.list_artifacts(tracking_run, folder)
            ]
        return {f.path: f.file_size or 0 for f in listed if not f.is_dir}

    def upload(self, tracking_run: str, path: Path, name: str) -> None:
        """Store a local file under an artifact name, replacing an older one."""
        folder = name.rpartition("/")[0]
        assert path.name == name.rpartition("/")[2]
        with _translated(self.uri):
            self.client.log_artifact(tracking_run, str(path), folder or None)

    def download(self, tracking_run: str, name: str, folder: Path) -> Path:
        """Fetch one artifact below ``folder``.

        Args:
            tracking_run: Its run.
            name: As in the run's manifest; checked there to stay inside the run's layout.
            folder: Where it goes, under the same name.
        """
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # Where MLflow puts a nested name below its target differs between kinds of store.
        with tempfile.TemporaryDirectory(dir=folder) as scratch, _translated(self.uri):
            Path(self.client.download_artifacts(tracking_run, name, scratch)).replace(target)
        return target

    def read_text(self, tracking_run: str, name: str) -> str:
        """The text of a small artifact."""
        with tempfile.TemporaryDirectory() as folder:
            return self.download(tracking_run, name, Path(folder)).read_text()

    def aggregate_run(self) -> str:
        """The sweep's run of ``role=aggregate``, marked running."""
        with _translated(self.uri):
            run = self._one("role = 'aggregate'") or self._new("aggregate", {"role": "aggregate"})
            self.client.update_run(run, status="RUNNING")
        return run

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

    def local_folder(self, tracking_run: str) -> Path | None:
        """Where a run's artifacts lie, if they are files that this machine can read."""
        with _translated(self.uri):
            uri = self.client.get_run(tracking_run).info.artifact_uri or ""
        if not uri.startswith("file://"):
            return None
        folder = Path(url2pathname(urllib.parse.urlsplit(uri).path))
        return folder if folder.is_dir() else None

    def _trace(self, run: Run) -> Trace:
        tags, state = run.data.tags, _STATUS.get(run.info.status, "missing")
        epochs = int(run.data.metrics.get("epoch", -1)) + 1
        base = {"tracking_run": run.info.run_id, "epochs": epochs}
        if state == "failed":
            final = tags.get("failure.final") != "false"
            reason = tags.get("failure", "no reason was recorded")
            return Trace(state="failed", reason=reason, final=final, **base)
        if state != "done":
            return Trace(state="running" if state == "running" else "missing", **base)
        try:
            manifest = self.manifest(run.info.run_id)
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

    def _new(self, name: str, tags: Mapping[str, str]) -> str:
        run = self.client.create_run(self.experiment_id, tags=dict(tags), run_name=name)
        return run.info.run_id

    def _params(self, run: str, params: Mapping[str, Any]) -> None:
        batch = [Param(k, str(v)) for k, v in params.items()]
        for start in range(0, len(batch), 100):
            self.client.log_batch(run, params=batch[start : start + 100])

    def set_tags(self, tracking_run: str, tags: Mapping[str, str]) -> None:
        """Set or replace tags."""
        with _translated(self.uri):
            self.client.log_batch(tracking_run, tags=[RunTag(k, v) for k, v in tags.items()])


def _located(uri: str) -> str:
    """An address that can be one, a SQLite file's made absolute.

    Raises:
        TrackerError: If it is none, or the file is no place for a store.
    """
    if not uri.startswith(("sqlite:///", "http://", "https://")):
        raise TrackerError(
            f"tracking_uri: expected sqlite:/// or http(s)://; came {shown_uri(uri) or 'nothing'}"
        )
    if uri.startswith("http"):
        try:
            parts = urllib.parse.urlsplit(uri)
            right = bool(parts.hostname) and parts.port != 0  # which also reads the port
        except ValueError:
            right = False
        if not right:
            raise TrackerError(f"tracking_uri: expected http://HOST:PORT; came {shown_uri(uri)}")
        return uri
    path = Path(uri.removeprefix("sqlite:///")).absolute()
    came = ""
    if path.is_dir():
        came = f"the folder {path}"
    elif not path.exists() and (bar := folder_bar(path.parent)):
        came = f"{path}: {bar}"
    elif path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            came = "" if file.read(len(_SQLITE)) == _SQLITE else f"another file, {path}"
    if came:
        raise TrackerError(
            f"tracking_uri: expected a SQLite database or a place for one; came {came}"
        )
    return f"sqlite:///{path}"


def _check_reachable(uri: str) -> None:
    """Ask an HTTP tracker for a sign of life before MLflow begins its slow retries."""
    if uri.startswith("http"):
        try:
            requests.get(uri.rstrip("/") + "/health", timeout=10).raise_for_status()
        except RequestException as error:
            raise TrackerError(
                f"tracker {shown_uri(uri)} does not answer ({type(error).__name__}); start it "
                "(mlflow server) or correct tracking_uri"
            ) from error


def _new_experiment(client: MlflowClient, uri: str, name: str) -> str:
    location = None
    if uri.startswith("sqlite:///"):
        artifacts = Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts"
        location = (artifacts / urllib.parse.quote(name, safe="")).as_uri()
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
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise TrackerError(f"tracker {shown_uri(uri)}: {lines[0][:300]}") from error


def _identity_tags(configuration: Configuration) -> dict[str, str]:
    return {
        "configuration_id": configuration.configuration_id,
        "regimen": configuration.regimen,
        "dataset": str(configuration.dataset["name"]),
        "data_seed": str(configuration.dataset.get("data_seed", 0)),
        "plant": canonical_json(configuration.plant) if configuration.plant else "none",
    }


def _flat(configuration: Configuration) -> dict[str, Any]:
    """Hyperparameters as dotted keys."""
    nested = {
        **configuration.options,
        "model": configuration.model,
        "dataset": configuration.dataset,
        "vary": list(configuration.vary),
        "part": configuration.part or {},
    }
    return dict(_dotted(nested, ()))


def _dotted(value: Mapping[str, Any], path: Sequence[str]) -> Iterable[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _dotted(inner, (*path, key))
        else:
            yield ".".join((*path, key)), inner


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
