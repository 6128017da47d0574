"""What a worker of an aggregation does: it turns a run's dynamics into a parquet file of scores.

Every worker process imports this module anew. So it does not import torch, which only some metrics
need, or MLflow, which is needed only if the run's files are not on the worker's machine.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hardness.dynamics.folder import MANIFEST, Dynamics
from hardness.files import Damaged
from hardness.metrics.registry import METRICS
from hardness.scoring.runs import score_ensemble, score_run
from sweep.experiment.plugins import Plugin
from sweep.scoring import memory

VERSIONS = b"metric_versions"


def reduce_runs(
    task: Mapping[str, Any],
    *,
    address: tuple[str, str, str] | None,
    plugins: Sequence[Plugin] = (),
) -> dict[str, Any]:
    """Scores of one run or ensemble, as the bytes of a parquet file, or an error.

    Args:
        task: From ``cache.task``: ``file`` for the scores, ``keys`` of the metrics, and lists over
            the runs: ``run_ids``, ``tracking_runs`` and ``folders``. A folder is empty if the
            driver does not see the run's files.
        address: Arguments of ``Store``, used if a folder is not on this machine; None if the runs
            have no store.
        plugins: The user's own metrics.

    Returns:
        ``file``, ``scores`` as bytes, ``error`` (empty without one), and the ``run_id`` and
        ``tracking_run`` that the error is about.
    """
    for plugin in plugins:
        plugin.load()
    with contextlib.ExitStack() as stack:
        runs: list[Dynamics] = []
        members = zip(task["run_ids"], task["tracking_runs"], task["folders"], strict=True)
        for run_id, tracking_run, folder in members:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="sweep-run-"))
            answer = {"file": task["file"], "run_id": run_id, "tracking_run": tracking_run}
            try:
                if address is None or (folder and Path(folder).is_dir()):
                    files = Path(folder)
                else:
                    files = _fetch(address, tracking_run, Path(scratch))
                runs.append(Dynamics(files))
                runs[-1].verify()
            except Damaged as error:
                return {**answer, "error": f"damaged: {error}", "scores": b""}
        try:
            if len(runs) == 1:
                scores = score_run(runs[0], task["keys"], n_classes=len(runs[0].classes))
                scores.insert(1, "label", runs[0].samples["label"].to_numpy())
            else:
                scores = score_ensemble(runs, task["keys"])
        except Damaged as error:
            # In an ensemble the last run is blamed: each run was scored alone before.
            return {**answer, "error": f"damaged: {error}", "scores": b""}
    content = to_bytes(pa.Table.from_pandas(scores, preserve_index=False), task["keys"])
    # Otherwise idle workers would keep the memory that reading took.
    pa.default_memory_pool().release_unused()
    memory.give_back()
    return {**answer, "error": "", "scores": content}


def to_bytes(scores: pa.Table, keys: Iterable[str]) -> bytes:
    """Bytes of a parquet file of scores that names the version of each metric."""
    versions = json.dumps({key: version(key) for key in keys})
    sink = pa.BufferOutputStream()
    write_scores(scores.replace_schema_metadata({VERSIONS: versions}), sink)
    return sink.getvalue().to_pybytes()


def write_scores(table: pa.Table, where: Path | pa.NativeFile) -> None:
    """Write a parquet file without dictionaries, and with the bytes of floats split into streams.

    Either of the two halves the time.
    """
    floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    pq.write_table(
        table,
        where,
        compression="zstd",
        use_dictionary=False,
        column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
        write_statistics=False,
        write_page_checksum=True,
    )


def version(key: str) -> str:
    """Version of a metric; for a plugin with its module name, which has a digest of its text."""
    metric = METRICS[key]
    function = getattr(metric.function, "func", metric.function)
    module = function.__module__
    own = module.startswith("sweep_plugin_")
    return f"{metric.version} {module}" if own else str(metric.version)


def _fetch(address: tuple[str, str, str], tracking_run: str, scratch: Path) -> Path:
    """A folder with the run's files: the store's folder if this machine sees it, else a copy."""
    from sweep.store.mlflow_store import Store  # noqa: PLC0415 - imports MLflow and torch
    from sweep.store.run_store import manifest_of  # noqa: PLC0415 - imports torch

    store = Store(*address)
    local = store.local_folder(tracking_run)
    if local is not None:
        return local
    manifest = manifest_of(store, tracking_run)
    for file in (MANIFEST, *manifest.files):
        store.download(tracking_run, file, scratch)
    return scratch
