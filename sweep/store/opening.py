"""Steps before a tracking store is opened: its server answers, and one process makes its file."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import requests
from requests.exceptions import RequestException

from sweep.errors import TrackerError, hidden
from sweep.experiment.addresses import SQLITE


def check_reachable(uri: str) -> None:
    """Ask an HTTP tracker for a sign of life before MLflow begins its slow retries.

    Raises:
        TrackerError: If the tracker does not answer.
    """
    if uri.startswith("http"):
        try:
            requests.get(uri.rstrip("/") + "/health", timeout=10).raise_for_status()
        except RequestException as error:
            raise TrackerError(
                f"tracker {hidden(uri)} does not answer ({type(error).__name__}); start it "
                "(mlflow server) or correct tracking_uri"
            ) from None


@contextlib.contextmanager
def one_process_at_a_time(uri: str) -> Iterator[None]:
    """Lock the folder of a SQLite store against other processes of this machine."""
    if not uri.startswith(SQLITE):
        yield
        return
    place = Path(uri.removeprefix(SQLITE)).parent
    place.mkdir(parents=True, exist_ok=True)
    # The folder itself is locked, since a lock file would stay behind. Closing it unlocks.
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # NFS locks no folders
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
