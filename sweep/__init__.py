"""Seeded sweeps under Ray Tune, tracked in MLflow, aggregated with Ray Data."""

import os
import sys
from pathlib import Path

# With this variable at 0 Ray forms no cluster and listens on loopback alone; else it listens on
# every interface. `_node_ip_address="127.0.0.1"` does not help: Ray replaces it by the machine's
# address. Ray reads the variable on import, so it is set before. A cluster is wanted if there is an
# address, a job, or a cluster started on this machine with `ray start`.
_CLUSTER = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")  # noqa: S108
_ASKED = {"RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"} & {*os.environ} or _CLUSTER.exists()
if not _ASKED and "ray" not in sys.modules:
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
