"""The Ray session, and Ray Tune, which runs packs with their resources and retries."""

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.exceptions import OutOfMemoryError
from ray.tune.search import Searcher

from sweep.errors import Mistake
from sweep.execution.places import Places, Progress
from sweep.experiment.runs import Pack
from sweep.experiment.spec import Resources

if TYPE_CHECKING:
    from hardness.data.datasets import Dataset

# Ray reads these when it starts: no result files of Tune, no usage reports, no new environment per
# worker under `uv run`, no idle workers that keep memory, and trials queued ahead of free slots.
for _name, _value in {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_num_workers_soft_limit": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "16",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
}.items():
    os.environ.setdefault(_name, _value)


@contextlib.contextmanager
def session(say: Callable[[str], None] = lambda _line: None) -> Iterator[None]:
    """A Ray session: on the cluster that ``RAY_ADDRESS`` names, else on this machine.

    Args:
        say: Called with a warning if strangers can use this Ray.
    """
    if ray.is_initialized():
        yield
        return
    # Workers import torch and mlflow: without cached bytecode this takes three times as long.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    terminate = signal.getsignal(signal.SIGTERM)
    dashboard = None if os.environ.get("RAY_ADDRESS") else False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=dashboard)
    if threading.current_thread() is threading.main_thread():
        # Ray's own handler would end the process before interrupted runs are marked.
        signal.signal(signal.SIGTERM, terminate)
    try:
        if line := unguarded(ray.get_runtime_context().gcs_address):
            say(line)
        yield
    finally:
        ray.shutdown()


def unguarded(address: str) -> str:
    """A warning if other machines reach Ray without a token; empty if they cannot.

    Args:
        address: ``HOST:PORT`` of Ray's control store (GCS).
    """
    host = address.rpartition(":")[0].strip("[]")
    # Ray sets RAY_AUTH_MODE itself if it finds a token, and refuses clients without it.
    if host.startswith("127.") or host in ("::1", "localhost"):
        return ""
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token":
        return ""
    return (
        f"warning: whoever reaches the Ray at {address} can run programs on it, because it asks "
        "for no token; set RAY_AUTH_MODE=token on all of its nodes and here"
    )


def in_job() -> bool:
    """Whether this process is the entry point of a Ray job."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def alone() -> bool:
    """Whether all packs are placed on one node; needs a session."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    # A head node without CPUs waits for further nodes.
    return len(alive) == 1 and "CPU" in alive[0]["Resources"]


def refuse_too_large(resources: Resources) -> None:
    """Refuse a pack that is too large for this machine: Tune would wait for ever.

    On a cluster nothing is refused, because nodes may still join.

    Raises:
        Mistake: If a pack takes more CPUs or GPUs than this machine has.
    """
    if in_job() or os.environ.get("RAY_ADDRESS"):
        return
    have = ray.cluster_resources() if ray.is_initialized() else _here(resources)
    for name, wanted in (("CPU", resources.cpu), ("GPU", resources.gpu)):
        if wanted > have.get(name, 0):
            raise Mistake(
                f"resources.{name.lower()}: expected at most the {have.get(name, 0):g} of this "
                f"machine; got {wanted:g}: ask for fewer, or run on a cluster"
            )


def _here(resources: Resources) -> dict[str, float]:
    have = {"CPU": float(os.cpu_count() or 1)}
    if resources.gpu:
        import torch  # noqa: PLC0415 - a sweep without GPUs does not need it

        have["GPU"] = float(torch.cuda.device_count())
    return have


def slots(resources: Resources) -> int:
    """Number of packs that the cluster can run at once; needs a session."""
    have = ray.cluster_resources()
    fits = [
        have.get(name, 0) / wanted
        for name, wanted in (("CPU", resources.cpu), ("GPU", resources.gpu))
        if wanted
    ]
    return int(min(fits))


def run(
    next_packs: Callable[[], Sequence[Pack]],
    on_progress: Callable[[Progress], None],
    *,
    dataset: "Dataset",
    places: Places,
    resources: Resources,
) -> list[tuple[Pack, str]]:
    """Train packs until there are no more; needs a session.

    If the process of a pack is lost, the pack starts again from its checkpoints, up to
    ``max_failures`` times. Ray's state is never restored: the tracker knows which runs are done.

    Args:
        next_packs: Called when a slot is free. An empty list means "ask again after a pack has
            ended" if packs are running, else "no more packs".
        on_progress: Called in this process for each report.
        dataset: The dataset, sent to the workers through Ray's object store.
        places: Where runs read and write.
        resources: Resources of one pack.

    Returns:
        The packs that were given up, each with the reason.
    """
    planner = _Planner(next_packs)
    lost: list[tuple[Pack, str]] = []
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    trainable = tune.with_resources(
        tune.with_parameters(
            _train, dataset=dataset, places=places, max_failures=resources.max_failures
        ),
        {"cpu": resources.cpu, "gpu": resources.gpu},
    )
    # Tune requires a folder that every node sees, although we write nothing there.
    Path(places.storage_path).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".tune-", dir=places.storage_path))
    run_config = tune.RunConfig(
        name="packs",
        storage_path=str(folder),
        failure_config=tune.FailureConfig(max_failures=resources.max_failures),
        callbacks=[_Listener(on_progress, lost)],
        verbose=0,
    )
    try:
        # If memory runs out, Ray ends workers with an error, and Tune stops.
        while (full := _fit(trainable, planner, run_config)) is not None:
            reason = str(full).partition(" Memory on the node")[0]
            lost += [(pack, reason) for pack in planner.again(resources.max_failures)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return lost


def _fit(
    trainable: Any, planner: "_Planner", run_config: tune.RunConfig
) -> OutOfMemoryError | None:
    """Let Tune train the planner's packs; returns the error if memory ran out."""
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=planner,
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=run_config,
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # At the end Tune reads why trials failed; on a full disk these files are cut off.
            with contextlib.suppress(EOFError):
                tuner.fit()
    except RuntimeError as error:
        if isinstance(error.__cause__, OutOfMemoryError):
            return error.__cause__
        raise
    return None


def _train(
    config: dict[str, Any], *, dataset: "Dataset", places: Places, max_failures: int
) -> None:
    """Train a pack, again if storage or tracker fail; after the last attempt report the reason.

    Tune's own retry would start a new process, and keep the reason in the storage that may have
    failed.
    """
    from sweep.execution.trial import run_pack  # noqa: PLC0415 - imports torch

    reason = ""
    for attempt in range(max_failures + 1):
        time.sleep(2**attempt - 1)
        try:
            for progress in run_pack(Pack.from_json(config["pack"]), dataset, places):
                _report(progress)
        except OSError as error:
            reason = str(error)
        else:
            return
    _report(Progress(run_id="", epoch=0, epochs=0, state="lost", reason=reason))


def _report(progress: Progress) -> None:
    tune.report(
        {
            "run_id": progress.run_id,
            "epoch": progress.epoch,
            "epochs": progress.epochs,
            "state": progress.state,
            "reason": progress.reason,
            "summary": dict(progress.summary),
        }
    )


class _Planner(Searcher):
    """Gives Tune one pack after the other; keeps no search state of its own."""

    def __init__(self, next_packs: Callable[[], Sequence[Pack]]) -> None:
        super().__init__()
        self._next_packs = next_packs
        self._waiting: list[Pack] = []
        self._running: dict[str, Pack] = {}
        self._cut_off: Counter[str] = Counter()
        self._news = True

    def suggest(self, trial_id: str) -> Any:
        # Tune calls this in a tight loop, and next_packs reads the store. As long as no trial has
        # ended, the answer is the same.
        if not self._waiting and self._news:
            self._waiting = list(self._next_packs())
            self._news = bool(self._waiting)
        if not self._waiting:
            return None if self._running else Searcher.FINISHED
        self._running[trial_id] = self._waiting.pop(0)
        return {"pack": self._running[trial_id].to_json()}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self._running.pop(trial_id, None)
        self._news = True

    def again(self, most: int) -> list[Pack]:
        """Queue the packs that ran when Tune stopped; returns those that were cut off too often."""
        running, self._running = list(self._running.values()), {}
        self._cut_off.update(pack.to_json() for pack in running)
        gone = [pack for pack in running if self._cut_off[pack.to_json()] > most]
        self._waiting = [*(pack for pack in running if pack not in gone), *self._waiting]
        self._news = True
        return gone

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the next session asks the store."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the next session asks the store."""

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its search; the driver cannot be pickled.
        return {**self.__dict__, "_next_packs": None}


class _Listener(tune.Callback):
    """Passes reports of the workers on to the driver."""

    def __init__(
        self, on_progress: Callable[[Progress], None], lost: list[tuple[Pack, str]]
    ) -> None:
        self._on_progress, self._lost = on_progress, lost

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if result.get("state") == "lost":
            self._give_up(trial, result["reason"])
        elif "run_id" in result:
            fields = ("run_id", "epoch", "epochs", "state", "reason", "summary")
            self._on_progress(Progress(**{name: result[name] for name in fields}))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        try:
            cause = str(trial.get_pickled_error() or "")
        except EOFError:
            cause = ""  # the disk was too full to keep it
        self._give_up(trial, cause.strip() or "its process was lost")

    def _give_up(self, trial: Any, reason: str) -> None:
        lost = Pack.from_json(trial.config["pack"])
        self._lost.append((lost, reason.splitlines()[-1][:500]))

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks; a progress display cannot be pickled.
        return {"_on_progress": None, "_lost": []}
