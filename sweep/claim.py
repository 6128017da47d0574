"""Which process works on a run: a worker of a driver that is gone may train on for seconds."""

import secrets
from collections.abc import Mapping
from pathlib import Path

from sweep.tracking import Store


class Lost(Exception):  # noqa: N818 - it states what happened to the run
    """Another process has taken the run up; whatever this one still does is of no use."""


class Claim:
    """A file that bears the token of the last process that has taken a run up.

    Taking needs nobody's consent: whoever comes last has been sent by the driver that holds the
    sweep. Its predecessor finds another token, or none once the run is done, and stops.

    Args:
        path: On storage that all nodes share.
        sweep: Name of the one that it is taken up for.
    """

    def __init__(self, path: Path, sweep: str) -> None:
        own = secrets.token_hex(8)
        self._path, self._token = path, f"{sweep} {own}"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{own}")
        try:
            partial.write_text(self._token)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def check(self) -> None:
        """Do nothing if the run is still this process's.

        Raises:
            Lost: If it is not.
        """
        try:
            found = self._path.read_text()
        except FileNotFoundError:
            found = ""
        if found != self._token:
            raise Lost


def claimed_for(path: Path) -> str:
    """Name of the sweep that a run was last taken up for, and not put down since; empty if none."""
    try:
        return path.read_text().partition(" ")[0]
    except FileNotFoundError:
        return ""


class Guarded:
    """What a worker writes to the tracker of a run, for as long as the run is its own.

    Args:
        store: Where to.
        claim: On the run.
    """

    def __init__(self, store: Store, claim: Claim) -> None:
        self._store, self._claim = store, claim

    def upload(self, tracking_run: str, path: Path, name: str) -> None:
        """As ``Store.upload``."""
        self._claim.check()
        self._store.upload(tracking_run, path, name)

    def log_epoch(self, tracking_run: str, epoch: int, summary: Mapping[str, float]) -> None:
        """As ``Store.log_epoch``."""
        self._claim.check()
        self._store.log_epoch(tracking_run, epoch, summary)

    def finish(self, tracking_run: str) -> None:
        """As ``Store.finish``."""
        self._claim.check()
        self._store.finish(tracking_run)

    def fail(self, tracking_run: str, reason: str, *, final: bool) -> None:
        """As ``Store.fail``."""
        self._claim.check()
        self._store.fail(tracking_run, reason, final=final)
