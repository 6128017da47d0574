"""What a worker of an aggregation does: the dynamics of a run to its scores, as a parquet file.

Each worker pays for its imports anew. So nothing here loads torch, which only some metrics need, or
MLflow, which is not needed where the run's files lie on the worker's own machine.
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
    """Scores of one run or ensemble, as the bytes of a parquet file, or why there are none.

    Args:
        task: ``file`` that the scores go to, ``keys`` of metrics, and of each member its
            ``run_ids``, ``tracking_runs`` and ``folders``, where the driver saw its files, empty
            if nowhere.
        address: Arguments of ``Store``, in case that a folder is not on this machine; None where
            there is no store.
        plugins: The user's own metrics.

    Returns:
        The ``file``, ``scores`` as bytes, and an ``error``, empty if all is well; with it the
        ``run_id`` and ``tracking_run`` that it is about.
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
            # Of the members of an ensemble the last one answers, as each was scored alone before.
            return {**answer, "error": f"damaged: {error}", "scores": b""}
    content = to_bytes(pa.Table.from_pandas(scores, preserve_index=False), task["keys"])
    # Workers wait while the driver compares, each with what reading took.
    pa.default_memory_pool().release_unused()
    memory.give_back()
    return {**answer, "error": "", "scores": content}


def to_bytes(scores: pa.Table, keys: Iterable[str]) -> bytes:
    """A parquet file that says of which version of each metric its columns are."""
    versions = json.dumps({key: version(key) for key in keys})
    sink = pa.BufferOutputStream()
    write_scores(scores.replace_schema_metadata({VERSIONS: versions}), sink)
    return sink.getvalue().to_pybytes()


def write_scores(table: pa.Table, where: Path | pa.NativeFile) -> None:
    """Without a dictionary, which would hold each sample's own score; bytes of one place together.

    Either of the two halves the time that it takes.
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
    """A metric's version; a plugin's also by its text, which its module is named after."""
    metric = METRICS[key]
    function = getattr(metric.function, "func", metric.function)
    module = function.__module__
    own = module.startswith("sweep_plugin_")
    return f"{metric.version} {module}" if own else str(metric.version)


def _fetch(address: tuple[str, str, str], tracking_run: str, scratch: Path) -> Path:
    """A folder with the run's files: the store's own if this machine sees it, else a copy."""
    from sweep.store.mlflow_store import Store  # noqa: PLC0415 - MLflow and torch
    from sweep.store.run_store import manifest_of  # noqa: PLC0415 - torch

    store = Store(*address)
    local = store.local_folder(tracking_run)
    if local is not None:
        return local
    manifest = manifest_of(store, tracking_run)
    for file in (MANIFEST, *manifest.files):
        store.download(tracking_run, file, scratch)
    return scratch
