"""Sends a run's spooled files to the tracker in the background, while training goes on."""

import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tenacity import retry, retry_if_exception, stop_after_delay, wait_random_exponential

from hardness.dynamics import INIT, fingerprint
from sweep.claim import Guarded

PATIENCE_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    files: Sequence[str]
    epoch: int | None = None
    summary: Mapping[str, float] = field(default_factory=dict)


def _passing(error: BaseException) -> bool:
    """Whether trying again may help; a spooled file that vanished does not come back."""
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError)


class Uploader:
    """A queue of spooled files and the thread that empties it.

    A file leaves the spool once it is stored, so what is still there after a crash is what still
    has to go. The queue holds names only; a tracker that is down delays uploads, not training.

    Args:
        store: Where to.
        tracking_run: Whose artifacts they become.
        spool: Folder in which the files wait, under their artifact names.
    """

    def __init__(self, store: Guarded, tracking_run: str, spool: Path) -> None:
        self.store, self.tracking_run, self.spool = store, tracking_run, spool
        self.sent: dict[str, tuple[int, str]] = {}
        self._items: queue.Queue[_Item | None] = queue.Queue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="uploader", daemon=True)
        self._thread.start()

    def put(
        self,
        files: Sequence[str],
        *,
        epoch: int | None = None,
        summary: Mapping[str, float] | None = None,
    ) -> None:
        """Queue files, and an epoch's numbers to be logged once its files are stored.

        Raises:
            OSError: If an earlier upload failed for good.
        """
        self._raise()
        self._items.put(_Item(files=files, epoch=epoch, summary=summary or {}))

    def close(self) -> None:
        """Wait until everything queued is stored.

        Raises:
            OSError: If an upload failed for good.
        """
        self._items.put(None)
        self._thread.join()
        self._raise()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close, unless what failed is storage itself, or the training was told to stop."""
        of_training = kind is None or issubclass(kind, Exception)
        if of_training and not issubclass(kind or Exception, OSError):
            self.close()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (item := self._items.get()) is not None:
            try:
                self._send(item)
            except Exception as error:  # noqa: BLE001 - handed to the training thread
                self._error = error
                return

    @retry(
        retry=retry_if_exception(_passing),
        wait=wait_random_exponential(multiplier=0.5, max=30),
        stop=stop_after_delay(PATIENCE_S),
        reraise=True,
    )
    def _send(self, item: _Item) -> None:
        for name in item.files:
            path = self.spool / name
            # After a retry a file may be gone because it is stored already.
            if path.exists() or name not in self.sent:
                digest = fingerprint(path)
                self.store.upload(self.tracking_run, path, name)
                self.sent[name] = digest
        if item.epoch is not None and item.epoch != INIT:
            self.store.log_epoch(self.tracking_run, item.epoch, item.summary)
        for name in item.files:
            (self.spool / name).unlink(missing_ok=True)
