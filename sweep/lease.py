"""One driver a sweep: who it is stands in the tracker, the one place that all drivers share.

Nothing here compares the clocks of two machines. Whether a driver of this machine lives is read off
its process; that of another one is watched, since it renews its lease every few seconds.
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sweep.mistake import Mistake
from sweep.tracking import Store, TrackerError

RENEW_S = 5.0
# Two drivers that start at once both see a free sweep, and both write within half of this.
SETTLE_S = 0.5
# A lease that was not renewed for so long is that of a driver that is gone.
LIFETIME_S = 30.0
_LOOK_S = 0.5


class Taken(Mistake):
    """Another driver has the sweep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The driver of a sweep.

    Args:
        token: Its own, never used again.
        user: Whose it is.
        host: The machine's name.
        machine: What sets apart machines, and containers, of one name; empty if unknown.
        pid: Its process there.
        started: When that process started, by the machine's own count.
        since: When it took the sweep, by its clock, to be shown.
        renewed: How often it has said since then that it lives.
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
    def from_text(cls, text: str) -> "Holder | None":
        """Read what ``to_text`` wrote; None if nobody holds the sweep."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    def to_text(self) -> str:
        """What stands in the tracker."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    def __str__(self) -> str:
        return f"{self.user}@{self.host} (pid {self.pid})"

    @property
    def alive(self) -> bool | None:
        """Whether its process lives; None if it is none of this machine's."""
        if not self.machine or self.machine != _machine():
            return None
        return _started(self.pid) == self.started


def _me() -> Holder:
    return Holder(
        token=secrets.token_hex(8),
        user=_user(),
        host=socket.gethostname(),
        machine=_machine(),
        pid=os.getpid(),
        started=_started(os.getpid()),
        since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())  # a container need not know its user's name


def _machine() -> str:
    """This boot of this machine, and within it the numbering of processes; empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process started, which tells it from another of its number; empty if it is dead."""
    try:
        # The name of the program, in parentheses, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def driver(store: Store) -> Holder | None:
    """The living driver of a sweep, if it has one.

    One of another machine shows within two renewals that it lives.
    """
    text = store.read_lease()
    holder = Holder.from_text(text)
    if holder is None:
        return None
    alive = holder.alive
    if alive is None:
        alive = _moves(store, text, 2 * RENEW_S + 2)
    return holder if alive else None


def _moves(store: Store, text: str, seconds: float) -> bool:
    """Whether the lease is renewed, or taken, within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(_LOOK_S)
        now = store.read_lease()
        if now != text:
            return Holder.from_text(now) is not None
    return False


class Lease:
    """A sweep that this process drives.

    Args:
        store: The sweep's.

    Attributes:
        lost_to: Who has taken it over, if anybody has.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.lost_to: Holder | None = None
        self._me = _me()
        # Of its own: it must not wait as patiently as the sweep does.
        self._tracker = Store(*store.address)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def take(self, say: Callable[[str], None]) -> None:
        """Take the sweep, or find that another driver has it.

        Raises:
            Taken: If another driver has it.
            TrackerError: If the tracker fails.
        """
        gone, settle = "", SETTLE_S
        while True:
            began = time.monotonic()
            text = self._tracker.read_lease()
            holder = Holder.from_text(text)
            if holder is not None and text != gone and holder.token != self._me.token:
                if self._lives(holder, text, say):
                    raise Taken(
                        f"{holder} has been running the sweep {self.store.name} since "
                        f"{holder.since}; wait until it is done, or end it there and start again"
                    )
                gone = text
                continue
            # Two that write the first lease of all at once collide; what stands is read below.
            with contextlib.suppress(TrackerError):
                self._write()
            # Whoever saw the sweep free before this was written writes before this is over.
            in_time = time.monotonic() - began < settle / 2
            time.sleep(settle)
            found = Holder.from_text(self._tracker.read_lease())
            if in_time and found is not None and found.token == self._me.token:
                break
            settle = settle if in_time else min(2 * settle, LIFETIME_S)
        self._thread.start()

    def _lives(self, holder: Holder, text: str, say: Callable[[str], None]) -> bool:
        if (alive := holder.alive) is not None:
            return alive
        say(f"{holder} had the sweep; watching for {LIFETIME_S:.0f} s whether it still lives")
        return _moves(self._tracker, text, LIFETIME_S)

    def release(self) -> None:
        """Give the sweep back."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(2 * RENEW_S)
        # Where the tracker is away the lease stays, as that of a process that is gone.
        with contextlib.suppress(TrackerError):
            holder = Holder.from_text(self._tracker.read_lease())
            if holder is not None and holder.token == self._me.token:
                self._tracker.write_lease("")

    def _write(self) -> None:
        self._me = dataclasses.replace(self._me, renewed=self._me.renewed + 1)
        self._tracker.write_lease(self._me.to_text())

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_S):
            # A tracker that is away is away for every driver: no reason to stop.
            with contextlib.suppress(TrackerError):
                holder = Holder.from_text(self._tracker.read_lease())
                if holder is not None and holder.token != self._me.token:
                    self.lost_to = holder
                    # Like Ctrl-C, also where the main thread waits for something.
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                    return
                self._write()


@contextlib.contextmanager
def held(store: Store, say: Callable[[str], None]) -> Iterator[Lease]:
    """Drive a sweep alone; whatever a driver before this one left unfinished is put in order.

    Args:
        store: The sweep's.
        say: Told what takes long.

    Raises:
        Taken: If another driver has it.
    """
    lease = Lease(store)
    try:
        lease.take(say)
        store.tidy()
        yield lease
    finally:
        lease.release()
