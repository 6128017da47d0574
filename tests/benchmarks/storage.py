"""A tracking store of one's own, in a folder that goes with it."""

import contextlib
import logging
import os
import tempfile
from pathlib import Path

from sweep.execution.places import Places
from sweep.store.mlflow_store import Store


@contextlib.contextmanager
def store(name):
    """A fresh SQLite store in a folder of its own, and the places of runs in it."""
    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix=f"benchmark-{name}-") as folder:
        # A worker that looked for a store of its own would make one here, not in the repository.
        before = Path.cwd()
        os.chdir(folder)
        try:
            made = Store.create(f"sqlite:///{folder}/mlflow.db", name)
            yield (
                made,
                Places(
                    store=made,
                    name=name,
                    storage_path=f"{folder}/storage",
                ),
            )
        finally:
            os.chdir(before)
