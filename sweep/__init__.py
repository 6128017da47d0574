"""Seeded sweeps under Ray Tune, tracked in MLflow, aggregated with Ray Data."""

import os
import sys
from pathlib import Path

# Ray's parts listen on every interface wherever it may form a cluster, and on loopback alone where
# this says that it may not; `_node_ip_address="127.0.0.1"` is turned back into the machine's own
# address. Ray reads it while it is imported, so it stands before any import of it. A cluster is
# asked for by an address, by a job, or by one that was started here with `ray start`.
_CLUSTER = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")  # noqa: S108
_ASKED = {"RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"} & {*os.environ} or _CLUSTER.exists()
if not _ASKED and "ray" not in sys.modules:
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
