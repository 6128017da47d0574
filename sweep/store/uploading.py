"""Uploads a run's spooled files to the tracker in the background, while training goes on."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_delay,
    wait_random_exponential,
)

from hardness.dynamics.record import INIT
from hardness.files import fingerprint
from sweep.store.run_store import PATIENCE_S, RunWriter

T = TypeVar("T")
SPOOL_BYTES = 4 * 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    files: Sequence[str]
    nbytes: int
    epoch: int | None = None
    summary: Mapping[str, float] = field(default_factory=dict)


def _passing(error: BaseException) -> bool:
    """Whether trying again may help; a missing spooled file does not come back."""
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError)


def _retrying(stop: Callable[[RetryCallState], bool], sleep: Callable[[float], Any]) -> Retrying:
    """Retries after random waits, so that not all workers ask a returning tracker at once."""
    return Retrying(
        retry=retry_if_exception(_passing),
        wait=wait_random_exponential(multiplier=0.5, max=30),
        stop=stop,
        sleep=sleep,
        reraise=True,
    )


def patiently(ask: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """Call a function again until the tracker answers, for at most ``patience_s`` seconds.

    Raises:
        OSError: If the tracker did not answer in that time.
    """
    return _retrying(stop_after_delay(patience_s), time.sleep)(ask)


def waiting(spool: Path) -> tuple[int, int]:
    """Number of a run's files that wait for their upload, and their bytes."""
    sizes = []
    for path in spool.rglob("*"):
        try:
            if path.is_file() and path.suffix != ".partial":
                sizes.append(path.stat().st_size)
        except FileNotFoundError:
            # Uploaded after it was listed.
            continue
    return len(sizes), sum(sizes)


class Uploader:
    """A queue of spooled files and the thread that empties it.

    A file leaves the spool once it is stored, so the files found there after a crash still have to
    be uploaded. The queue holds file names and summary numbers, never content. While the tracker
    is down, the spool on disk grows, not the memory.

    While training goes on, failed uploads are repeated without end. After training, and while it
    waits for room in the spool, they are repeated for ``patience_s``.

    Args:
        store: Store that receives the files.
        tracking_run: Tracking id of the run.
        spool: Folder in which the files wait, under their artifact names.
        spool_bytes: Size of the spool in bytes above which ``put`` waits.
        patience_s: Seconds that the tracker may be down while nothing trains.
    """

    def __init__(
        self,
        store: RunWriter,
        tracking_run: str,
        spool: Path,
        *,
        spool_bytes: float = SPOOL_BYTES,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.store, self.tracking_run, self.spool = store, tracking_run, spool
        self.spool_bytes, self.patience_s = spool_bytes, patience_s
        self.sent: dict[str, tuple[int, str]] = {}
        self._items: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._stored = threading.Condition()
        self._nbytes = 0
        self._idle_since: float | None = None
        self._abandoned = threading.Event()
        self._error: BaseException | None = None
        self._retrying = _retrying(self._gives_up, self._abandoned.wait)
        self._thread = threading.Thread(target=self._work, name="uploader", daemon=True)
        self._thread.start()

    def put(
        self,
        files: Sequence[str],
        *,
        epoch: int | None = None,
        summary: Mapping[str, float] | None = None,
    ) -> None:
        """Queue files; an epoch's numbers are logged once its files are stored.

        Waits while the spool holds more than ``spool_bytes``.

        Raises:
            OSError: If an upload failed for good.
        """
        self._raise()
        nbytes = sum((self.spool / name).stat().st_size for name in files)
        with self._stored, self._idle():
            self._nbytes += nbytes
            self._items.put(_Item(files=files, nbytes=nbytes, epoch=epoch, summary=summary or {}))
            self._stored.wait_for(lambda: self._nbytes <= self.spool_bytes or self._error)
        self._raise()

    @property
    def waits(self) -> bool:
        """Whether queued files will make room in the spool once they are stored."""
        return self._nbytes > 0

    def make_room(self) -> None:
        """Wait until some queued files are stored and have left the spool.

        Raises:
            OSError: If an upload failed for good.
        """
        with self._stored, self._idle():
            before = self._nbytes
            self._stored.wait_for(lambda: self._nbytes < before or not before or self._error)
        self._raise()

    def close(self) -> None:
        """Wait until everything queued is stored.

        Raises:
            OSError: If an upload failed for good.
        """
        self._items.put(None)
        with self._idle():
            self._thread.join()
        self._raise()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close after training or its failure; do not wait if storage failed or it was stopped."""
        of_training = kind is None or issubclass(kind, Exception)
        if of_training and not issubclass(kind or Exception, OSError):
            self.close()
            return
        # This process may train other runs next, and another process this run.
        self._abandoned.set()
        self._items.put(None)
        if of_training:
            # Else a file on its way would delete its successor from the spool, if this process
            # trains the run again.
            self._thread.join()

    @contextmanager
    def _idle(self) -> Iterator[None]:
        """Count the time in which the training thread waits against ``patience_s``."""
        self._idle_since = time.monotonic()
        try:
            yield
        finally:
            self._idle_since = None

    def _gives_up(self, _state: RetryCallState) -> bool:
        since = self._idle_since
        out_of_patience = since is not None and time.monotonic() - since >= self.patience_s
        return out_of_patience or self._abandoned.is_set()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (item := self._items.get()) is not None and not self._abandoned.is_set():
            try:
                self._retrying(self._send, item)
            except Exception as error:  # noqa: BLE001 - raised in the training thread
                self._error = error
            with self._stored:
                self._nbytes -= item.nbytes
                self._stored.notify_all()
            if self._error is not None:
                return

    def _send(self, item: _Item) -> None:
        for name in item.files:
            path = self.spool / name
            # After a retry a file may be missing because it is already stored.
            if path.exists() or name not in self.sent:
                digest = fingerprint(path)
                self.store.upload(self.tracking_run, path, name)
                self.sent[name] = digest
        if item.epoch is not None and item.epoch != INIT:
            self.store.log_epoch(self.tracking_run, item.epoch, item.summary)
        for name in item.files:
            (self.spool / name).unlink(missing_ok=True)
