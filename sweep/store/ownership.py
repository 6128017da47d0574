"""Ownership: one driver owns a sweep, one worker owns a run.

A driver's claim is kept in the tracker, which all drivers share. Clocks of different machines are
never compared. A driver on this machine lives if its process does. A driver on another machine
lives if it renews its claim, which it does every few seconds.

A worker's claim is a file. A worker whose driver is gone trains on until it finds another claim in
that file, and then stops.
"""

import contextlib
import dataclasses
import getpass
import json
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from sweep.errors import Mistake, TrackerError
from sweep.store.run_store import RunWriter

RENEW_S = 5.0
# Two drivers that start together may both see a free sweep; both write within half of this time.
SETTLE_S = 0.5
# Seconds without renewal after which a driver counts as gone.
LIFETIME_S = 30.0
_LOOK_S = 0.5


class SweepTaken(Mistake):
    """Another driver owns the sweep."""


class RunTaken(Exception):  # noqa: N818 - it states what happened to the run
    """Another worker owns the run by now, so this one must stop."""


class DrivenSweep(Protocol):
    """The part of a sweep's store that its driver needs."""

    name: str

    def read_driver(self) -> str:
        """The driver's claim as text; empty if nobody drives the sweep."""

    def write_driver(self, text: str) -> None:
        """Replace the driver's claim."""

    def tidy(self) -> None:
        """End the runs that a lost driver left running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """The process that drives a sweep.

    Args:
        token: Random text, different for each driver.
        user: Name of the user who started the driver.
        host: Name of the driver's machine.
        machine: Text that differs between machines and containers of one name; empty if unknown.
        pid: Number of the process on its machine.
        started: Start of the process in clock ticks since the machine's boot.
        since: Time when the driver took the sweep, by its own clock, for display.
        renewed: Number of times that the claim was renewed.
    """

    token: str
    user: str
    host: str
    machine: str
    pid: int
    started: str
    since: str
    renewed: int = 0

    @classmethod
    def from_text(cls, text: str) -> "Driver | None":
        """Read what ``to_text`` wrote; None if nobody drives the sweep."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    @classmethod
    def here(cls) -> "Driver":
        """This process."""
        return cls(
            token=secrets.token_hex(8),
            user=_user(),
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            started=_started(os.getpid()),
            since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        )

    def to_text(self) -> str:
        """The claim that stands in the tracker."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    def __str__(self) -> str:
        return f"{self.user}@{self.host} (pid {self.pid})"

    @property
    def alive(self) -> bool | None:
        """Whether the driver's process lives; None if it runs on another machine."""
        if not self.machine or self.machine != _machine():
            return None
        return _started(self.pid) == self.started


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())  # a container need not know its user's name


def _machine() -> str:
    """Text for this boot of this machine and its process namespace; empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Start of a process, since its number may be used again later; empty if it is dead."""
    try:
        # The program's name stands in parentheses and may hold any character.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def driver(store: DrivenSweep) -> Driver | None:
    """The living driver of a sweep; None if there is none.

    A driver on another machine is watched for two renewals.
    """
    text = store.read_driver()
    found = Driver.from_text(text)
    if found is None:
        return None
    alive = found.alive
    if alive is None:
        alive = _moves(store, text, 2 * RENEW_S + 2)
    return found if alive else None


def _moves(store: DrivenSweep, text: str, seconds: float) -> bool:
    """Whether the claim is renewed or taken over within this time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(_LOOK_S)
        now = store.read_driver()
        if now != text:
            return Driver.from_text(now) is not None
    return False


class SweepClaim:
    """This process's claim on a sweep that it drives.

    Args:
        store: Store of the sweep.

    Attributes:
        taken_by: Driver that has taken over the sweep; None if there is none.
    """

    def __init__(self, store: DrivenSweep) -> None:
        self.store = store
        self.taken_by: Driver | None = None
        self._me = Driver.here()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="claim", daemon=True)

    def take(self, say: Callable[[str], None]) -> None:
        """Take the sweep.

        Args:
            say: Function that gets a line before a long wait.

        Raises:
            SweepTaken: If another driver has it.
            TrackerError: If the tracker fails.
        """
        gone, settle = "", SETTLE_S
        while True:
            began = time.monotonic()
            text = self.store.read_driver()
            found = Driver.from_text(text)
            if found is not None and text != gone and found.token != self._me.token:
                if self._lives(found, text, say):
                    raise SweepTaken(
                        f"{found} has been running the sweep {self.store.name} since "
                        f"{found.since}; wait until it is done, or end it there and start again"
                    )
                gone = text
                continue
            # Two drivers may write the very first claim at once, and one fails; it is read below.
            with contextlib.suppress(TrackerError):
                self._write()
            # Another driver that saw the sweep free writes its claim before this wait is over.
            in_time = time.monotonic() - began < settle / 2
            time.sleep(settle)
            found = Driver.from_text(self.store.read_driver())
            if in_time and found is not None and found.token == self._me.token:
                break
            settle = settle if in_time else min(2 * settle, LIFETIME_S)
        self._thread.start()

    def _lives(self, found: Driver, text: str, say: Callable[[str], None]) -> bool:
        if (alive := found.alive) is not None:
            return alive
        say(f"{found} had the sweep; watching for {LIFETIME_S:.0f} s whether it still lives")
        return _moves(self.store, text, LIFETIME_S)

    def release(self) -> None:
        """Give the sweep back."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(2 * RENEW_S)
        # If the tracker is away, the claim stays and soon counts as that of a lost driver.
        with contextlib.suppress(TrackerError):
            found = Driver.from_text(self.store.read_driver())
            if found is not None and found.token == self._me.token:
                self.store.write_driver("")

    def _write(self) -> None:
        self._me = dataclasses.replace(self._me, renewed=self._me.renewed + 1)
        self.store.write_driver(self._me.to_text())

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_S):
            # If the tracker is away, no other driver can take the sweep either.
            with contextlib.suppress(TrackerError):
                found = Driver.from_text(self.store.read_driver())
                if found is not None and found.token != self._me.token:
                    self.taken_by = found
                    # Like Ctrl-C, which also ends a wait of the main thread.
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                    return
                self._write()


@contextlib.contextmanager
def driving(store: DrivenSweep, say: Callable[[str], None]) -> Iterator[SweepClaim]:
    """Own a sweep for the time of a ``with`` block; first tidy up after a lost driver.

    Args:
        store: Store of the sweep.
        say: Function that gets a line before a long wait.

    Raises:
        SweepTaken: If another driver has it.
    """
    claim = SweepClaim(store)
    try:
        claim.take(say)
        store.tidy()
        yield claim
    finally:
        claim.release()


class RunClaim:
    """A worker's claim on a run: a file with the token of the last worker that took it.

    A worker takes a run without asking, since the driver that owns the sweep sent it. The worker
    before it finds another token, or no file once the run is done, and stops.

    Args:
        path: File on storage that all nodes share.
        sweep: Name of the sweep for which the run is trained.
    """

    def __init__(self, path: Path, sweep: str) -> None:
        own = secrets.token_hex(8)
        self._path, self._text = path, f"{sweep} {own}"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{own}")
        try:
            partial.write_text(self._text)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def check(self) -> None:
        """Check that this worker still owns the run.

        Raises:
            RunTaken: If it does not.
        """
        try:
            found = self._path.read_text()
        except FileNotFoundError:
            found = ""
        if found != self._text:
            raise RunTaken


class WhileOwned:
    """A store's writer that refuses to write once another worker owns the run.

    Args:
        store: Store that keeps the run.
        claim: This worker's claim on the run.
    """

    def __init__(self, store: RunWriter, claim: RunClaim) -> None:
        self._store, self._claim = store, claim

    def upload(self, tracking_run: str, path: Path, name: str) -> None:
        """Store a local file, as ``RunWriter`` says."""
        self._claim.check()
        self._store.upload(tracking_run, path, name)

    def log_epoch(self, tracking_run: str, epoch: int, summary: Mapping[str, float]) -> None:
        """Log an epoch's numbers, as ``RunWriter`` says."""
        self._claim.check()
        self._store.log_epoch(tracking_run, epoch, summary)

    def finish(self, tracking_run: str) -> None:
        """Mark the run done, as ``RunWriter`` says."""
        self._claim.check()
        self._store.finish(tracking_run)

    def fail(self, tracking_run: str, reason: str, *, final: bool) -> None:
        """Mark the run failed, as ``RunWriter`` says."""
        self._claim.check()
        self._store.fail(tracking_run, reason, final=final)


def claimed_for(path: Path) -> str:
    """Name of the sweep for which a run is claimed; empty without a claim."""
    try:
        return path.read_text().partition(" ")[0]
    except FileNotFoundError:
        return ""
