"""Nothing is lost when a process or a node is: each fault for real, against one reference.

The tables of an undisturbed sweep are made once. After each fault the same command again has to
give them to the bit, with no run twice, none left running, and nothing trained again without need.
"""

import signal
import time

import pytest
from breakable import EPOCHS, ended, goes_on, kill
from sweeps import cells, command

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


def test_kill_9_of_a_worker(sweep, cluster, reference):
    sweep.hold(2)
    process = sweep.start(cluster, "--no-aggregate")
    first, _ = sweep.held(2, process)[:2]
    assert sweep.states() == {"running": 2, "missing": 2}
    kill(first)
    sweep.go()
    assert ended(process)[0] == 0
    # The run goes on in another process, from its last checkpoint: one epoch is trained again.
    goes_on(sweep, reference, retrained=1)


def test_kill_9_of_the_driver(sweep, cluster, reference):
    sweep.hold(2)
    process = sweep.start(cluster)
    sweep.held(2, process)
    assert sweep.states() == {"running": 2, "missing": 2}
    kill(process.pid)
    # Its workers may be at work for a moment; nobody drives the sweep, so none of it runs.
    assert sweep.states() == {"missing": 4}
    assert sweep.reasons == ["cut off after 3 epochs; sweep run goes on"] * 2
    process.communicate()
    sweep.go()
    goes_on(sweep, reference, retrained=2 * (EPOCHS - 2))


def test_kill_9_of_the_second_node(sweep, cluster, reference):
    sweep.hold(2)
    process = sweep.start(cluster, "--no-aggregate")
    sweep.held(2, process)
    cluster.lose()
    sweep.go()
    try:
        assert ended(process)[0] == 0
    finally:
        cluster.join()
    goes_on(sweep, reference, retrained=2)


def test_kill_9_of_the_tracker_and_its_return(sweep, cluster, tracker, reference):
    sweep.hold(2)
    process = sweep.start(cluster, "--no-aggregate")
    sweep.held(2, process)
    tracker.kill()
    try:
        code, _, err = command("status", sweep.name, "--tracking-uri", tracker.uri)
        assert (code, "does not answer" in err) == (2, True)
        # Two cells train to their end, and their successors wait, while there is no tracker.
        sweep.go()
        trained = time.monotonic() + 60
        while sum(sweep.trained().values()) < 2 * (EPOCHS + 1):
            assert time.monotonic() < trained
            time.sleep(0.1)
    finally:
        tracker.start()
    assert ended(process)[0] == 0
    goes_on(sweep, reference, retrained=0)


@pytest.mark.parametrize("notice", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupt(notice, sweep, cluster, reference):
    sweep.hold(2)
    process = sweep.start(cluster)
    sweep.held(2, process)
    process.send_signal(notice)
    code, err = ended(process)
    assert code == 130, err
    assert "interrupted; what is done is kept. Go on with: sweep run" in err
    assert sweep.states() == {"missing": 4}
    store, _ = cells(sweep.name, sweep.uri)
    states = {r.info.status for r in store.client.search_runs([store.experiment_id])}
    assert states == {"FINISHED", "KILLED"}
    sweep.go()
    goes_on(sweep, reference, retrained=2 * (EPOCHS - 2))


def test_two_drivers_at_once(sweep, cluster, reference):
    sweep.hold(2)
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
    sweep.go()
    assert ended(driving)[0] == 0
    goes_on(sweep, reference, retrained=0)
