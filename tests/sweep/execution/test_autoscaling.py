"""Ray's own autoscaler, on one machine: workers come with the work, are lost, and go with it."""

import json
import time
from pathlib import Path

import pytest

from tests.sweep.breakable import EPOCHS, Cluster, Sweep, descendants, kill, until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
MOST = 2
# Of the fake provider, whose nodes are processes of this machine. What it does not use has to be
# there all the same.
PROVIDER = {
    "type": "fake_multinode",
    "use_node_id_as_ip": True,
    "disable_node_updaters": True,
    "disable_launch_config_check": True,
    "foreground_node_launch": True,
}
TYPES = {
    "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
    "spot": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": MOST},
}
LISTS = ("initialization_commands", "setup_commands", "head_setup_commands",
         "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands",
         "cluster_synced_files", "rsync_exclude", "rsync_filter")  # fmt: skip


@pytest.fixture
def cluster(tmp_path):
    """A head without CPUs, and an autoscaler that may start two workers of one."""
    cluster = Spots(tmp_path)
    try:
        yield cluster
    finally:
        cluster.close()


class Spots(Cluster):
    """A cluster whose second node, and third, come and go by themselves."""

    def __init__(self, folder):
        self.file = folder / "spots.json"
        super().__init__()

    def start_nodes(self):
        self.environment |= {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        content = {
            "cluster_name": "spots",
            "max_workers": MOST,
            "upscaling_speed": 2.0,
            "idle_timeout_minutes": 0.1,
            "provider": {**PROVIDER, "gcs_address": self.address},
            "available_node_types": TYPES,
            "head_node_type": "head",
            "file_mounts": {},
            "file_mounts_sync_continuously": False,
            "docker": {},
            "auth": {},
            **{name: [] for name in LISTS},
        }
        self.file.write_text(json.dumps(content))
        self.start_head(f"--autoscaling-config={self.file}", cpus=0)

    def workers(self):
        """How many nodes there are beside the head."""
        return len(self.nodes()) - 1


def node_of(worker):
    """All processes of the node that a worker runs on: its raylet is the worker's parent."""
    fields = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
    return descendants(int(fields[1]))


def test_workers_come_are_lost_and_go(tmp_path, tracker, cluster, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cluster.workers() == 0
    sweep = Sweep(tmp_path / "lost", tracker.uri, "spots")
    sweep.hold(2)
    process = sweep.start(cluster, "--no-aggregate")
    held = sweep.held(MOST, process)
    until(lambda: cluster.workers() == MOST, what="the maximum")
    kill(*reversed(node_of(held[0])))
    until(lambda: cluster.workers() < MOST, what="the loss")
    # The autoscaler starts another worker for what the lost one had, and it waits at the gate too.
    until(lambda: cluster.workers() == MOST, what="the replacement")
    sweep.go()
    _, err = process.communicate(timeout=300)
    assert (process.returncode, "Traceback" in err) == (0, False), err
    sweep.is_in_order()
    assert sweep.again() <= 1, sweep.trained()
    assert sum(sweep.trained().values()) >= 4 * (EPOCHS + 1)
    ended = time.monotonic()
    until(lambda: cluster.workers() == 0, what="the end of idle workers")
    assert time.monotonic() - ended < 60
