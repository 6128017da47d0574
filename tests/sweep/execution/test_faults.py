"""Nothing is lost when a process or a node is: each fault for real, against one reference.

The tables of an undisturbed sweep are made once. After each fault the same command again has to
give them to the bit, with no run twice, none left running, and nothing trained again without need.
"""

import signal
import time

import pytest

from tests.sweep.breakable import EPOCHS, ended, goes_on, kill, until
from tests.sweep.sweeps import cells, command

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


def test_kill_9_of_a_worker_of_a_node_and_of_the_tracker(sweep, cluster, tracker, reference):
    sweep.hold(1)
    process = sweep.start(cluster, "--no-aggregate")
    first, _ = sweep.held(2, process)
    assert sweep.states() == {"running": 2, "missing": 2}
    kill(first)
    sweep.hold(2)
    sweep.held(2, process)
    cluster.lose()
    cluster.join()
    sweep.hold(3)
    sweep.held(2, process)
    tracker.kill()
    try:
        code, _, err = command("status", sweep.name, "--tracking-uri", tracker.uri)
        assert (code, "does not answer" in err) == (2, True)
        # Two cells train to their end, and their successors wait, while there is no tracker.
        sweep.go()
        last = f" {EPOCHS - 1}"
        until(lambda: sum(line.endswith(last) for line in sweep.trained()) == 2, what="their end")
    finally:
        tracker.start()
    assert ended(process)[0] == 0
    # Two runs went on in other processes, from the checkpoint before the epoch that they stood in.
    assert sweep.again() == 2
    goes_on(sweep, reference, retrained=2)


def test_two_drivers_interrupts_and_kill_9_of_the_driver(sweep, cluster, reference):
    sweep.hold(1)
    processes = [sweep.start(cluster, "--no-aggregate") for _ in range(2)]
    while all(process.poll() is None for process in processes):
        time.sleep(0.1)
    (refused,) = [p for p in processes if p.poll() is not None]
    (driving,) = [p for p in processes if p is not refused]
    code, err = ended(refused)
    assert code == 2, err
    (line,) = err.splitlines()
    assert f"(pid {driving.pid}) has been running the sweep {sweep.name} since" in line
    sweep.held(2, driving)
    assert sweep.states() == {"running": 2, "missing": 2}
    is_interrupted(sweep, driving, signal.SIGINT)

    sweep.hold(2)
    driving = sweep.start(cluster)
    sweep.held(2, driving)
    is_interrupted(sweep, driving, signal.SIGTERM)

    sweep.hold(3)
    driving = sweep.start(cluster)
    sweep.held(2, driving)
    assert sweep.states() == {"running": 2, "missing": 2}
    kill(driving.pid)
    # Its workers may be at work for a moment; nobody drives the sweep, so none of it runs.
    assert sweep.states() == {"missing": 4}
    assert sweep.reasons == ["cut off after 4 epochs; sweep run goes on"] * 2
    driving.communicate()
    # Each time two cells lost the epoch whose checkpoint they had yet to write.
    sweep.go()
    goes_on(sweep, reference, retrained=3 * 2)
    assert sweep.again() == 3 * 2


def is_interrupted(sweep, driving, notice):
    """A driver ends as it should when it is told to: Ctrl-C, or as a spot instance is."""
    driving.send_signal(notice)
    code, err = ended(driving)
    assert code == 130, err
    assert "interrupted; what is done is kept. Go on with: sweep run" in err
    assert sweep.states() == {"missing": 4}
    store, _ = cells(sweep.name, sweep.uri)
    states = {r.info.status for r in store.client.search_runs([store.experiment_id])}
    assert states == {"FINISHED", "KILLED"}
