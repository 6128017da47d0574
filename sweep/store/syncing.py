"""Copies a sweep from one store into another, such as from the offline store to a server."""

import contextlib
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hardness.dynamics.folder import MANIFEST
from hardness.files import Damaged, fingerprint
from sweep.errors import Mistake, NoSuchSweep
from sweep.experiment.runs import Trace
from sweep.store.mlflow_store import Store
from sweep.store.run_records import Tracked
from sweep.store.run_store import manifest_of
from sweep.store.uploading import patiently

_CARRIED = ("done", "failed", "unfinished")
_ALREADY, _ASIDE = "there already", "left aside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """Result of copying a sweep.

    Args:
        line: Summary for the terminal.
        whole: Whether no run was left aside.
    """

    line: str
    whole: bool


def sync(source: Store, target: Store, say: Callable[[str], None]) -> Synced:
    """Copy a sweep's runs into another store; a second call goes on where the first was cut off.

    A run that is done in the target stays as it is, whoever trained it. One that failed there is
    replaced only if it is done in the source. A finished run is copied file by file, its manifest
    last. A half-trained run is marked as cut off in the target. Tables are not copied, since the
    target may have more runs.

    Args:
        source: Store that has the sweep.
        target: Store that receives the sweep.
        say: Function that gets one line per copied or skipped run.

    Raises:
        Mistake: If both are the same store.
        TrackerError: If one of the stores fails for good.
    """
    parents = _frame(source, target)
    here, there, adopted = source.traces(), target.traces(), target.adopted()
    counts, files, nbytes = Counter[str](), 0, 0
    for number, (run_id, trace) in enumerate(here.items(), start=1):
        outcome, why = _outcome(trace, there.get(run_id), ours=run_id in adopted)
        if outcome != _ALREADY:
            run = source.tracked(trace.tracking_run)
            if not why:
                parent = parents[run.tags["configuration_id"]]
                try:
                    n, size = patiently(partial(_carry, source, target, trace, run, parent))
                except Damaged as error:
                    outcome, why = _ASIDE, str(error)
                else:
                    files, nbytes = files + n, nbytes + size
                    why = f"{n} files, {size / 2**20:.1f} MiB"
            who = f"{run.tags['regimen']} {run.tags['configuration_id']} {run.name}"
            say(f"{number}/{len(here)} {who}: {outcome}, {why}")
        counts[outcome] += 1
    carried = [f"{counts[state]} {state}" for state in _CARRIED if counts[state]]
    others = [f"{counts[state]} {state}" for state in (_ALREADY, _ASIDE) if counts[state]]
    told = f"carried {' and '.join(carried) or 'none'} of {len(here)} runs"
    return Synced(
        line="; ".join([f"{told}, {files} files, {nbytes / 2**20:.1f} MiB", *others]),
        whole=not counts[_ASIDE],
    )


def _frame(source: Store, target: Store) -> Mapping[str, str]:
    """Create the sweep's run and one parent run per configuration; returns parents by id."""
    own, tags = source.sweep_run()
    # These two say where the source is, and would be wrong in the target.
    places = ("tracking_uri", "artifacts")
    content = {k: v for k, v in source.read_sweep().items() if k not in places}
    known = None
    with contextlib.suppress(NoSuchSweep):
        if target.sweep_run()[0] == own:
            raise Mistake("--to: expected another store; got the one that the sweep is in")
        known = target.read_sweep()
    if content != known:
        target.save_sweep(content, tags)
    there = {k.configuration.configuration_id: k for k in target.configurations()}
    parents = {name: k.tracking_run for name, k in there.items()}
    free = max((k.number for k in there.values()), default=-1) + 1
    for one in source.configurations():
        if (name := one.configuration.configuration_id) not in parents:
            number = max(free, one.number)
            parents[name] = target.save_configuration(one.configuration, one.parameters, number)
            free = number + 1
    return parents


def _outcome(here: Trace, there: Trace | None, *, ours: bool) -> tuple[str, str]:
    """What is done with a run, and the reason if it is not copied."""
    outcome = here.state if here.state in _CARRIED else "unfinished"
    if there is None:
        return outcome, ""
    if there.state == "done" or (there.state == "failed" and outcome != "done"):
        return _ALREADY, ""
    if there.state == "running":
        return _ASIDE, "it is being trained there; sync again once it is not"
    if outcome == "unfinished" and not ours:
        return _ASIDE, "it is half-trained here and there"
    return outcome, ""


def _carry(
    source: Store, target: Store, trace: Trace, run: Tracked, parent: str
) -> tuple[int, int]:
    """Copy a run; returns the number of copied files and their bytes.

    Raises:
        Damaged: If a file differs from the run's manifest.
    """
    there = trace.tracking_run
    manifest = manifest_of(source, there) if trace.state == "done" else None
    adopted = target.adopt(run, parent)
    sizes = source.files(there)
    # A manifest marks a run as done, so that of an unfinished run is not copied.
    last = [MANIFEST] if manifest else []
    first = [name for name in sizes if name != MANIFEST]
    known = target.files(adopted)
    with tempfile.TemporaryDirectory() as folder:

        def send(name: str) -> None:
            local = source.local_folder(there)
            path = local / name if local else source.download(there, name, Path(folder))
            if manifest and fingerprint(path) != manifest.files.get(name, fingerprint(path)):
                raise Damaged(f"{name}: expected the digest in the manifest; got another")
            target.upload(adopted, path, name)
            if not local:
                path.unlink()

        missing = [name for name in first if known.get(name) != sizes[name]]
        for name in missing:
            send(name)
        target.log_points(adopted, run.points)
        for name in last:
            send(name)
    if manifest:
        manifest_of(target, adopted)
    target.end_as(adopted, trace.state, run)
    missing += last
    return len(missing), sum(sizes[name] for name in missing)
