"""Nothing of ours is to be reached from another machine unless it was asked for."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from sweep.execution import fanout
from sweep.experiment import addresses
from sweep.store import mlflow_store
from tests.conftest import free_port, wait_for
from tests.sweep.listening import beyond_loopback, listening
from tests.sweep.sweeps import FEW, command, experiment

SWEEP, RAY = (Path(sys.executable).with_name(name) for name in ("sweep", "ray"))


def test_the_look_sees_who_listens_beyond_loopback():
    with socket.socket() as near, socket.socket() as far, socket.socket(socket.AF_INET6) as far6:
        near.bind(("127.0.0.1", 0))
        far.bind(("0.0.0.0", 0))
        far6.bind(("::", 0))
        for one in (near, far, far6):
            one.listen()
        ports = [one.getsockname()[1] for one in (near, far, far6)]
        assert {*ports} <= {port for _, port, _ in listening(os.getpid())}
        found = {(address, port) for address, port, _ in beyond_loopback(os.getpid())}
        assert {("0.0.0.0", ports[1]), ("::", ports[2])} <= found
        assert ports[0] not in {port for _, port in found}


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_sweep_on_this_machine_listens_on_loopback_alone(workdir):
    path = experiment(workdir, epochs=2, lrs="[0.1]", seeds="1", subset=60, metrics=FEW)
    seen, ended = set(), threading.Event()

    def look():
        while not ended.wait(0.3):
            seen.update(listening(os.getpid()))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        code, _, err = command("run", path, "--no-aggregate")
    finally:
        ended.set()
        watcher.join()
    assert code == 0, err
    assert "RAY_AUTH_MODE" not in err
    commands = " ".join(command for *_, command in seen)
    assert all(part in commands for part in ("gcs_server", "raylet"))
    assert [one for one in seen if not one[0].startswith(("127.", "::1", "::ffff:127."))] == []


@pytest.mark.slow
def test_the_ui_listens_on_loopback_alone(workdir):
    mlflow_store.Store.create(addresses.default_uri(), "small").save_sweep({}, {})
    port = free_port()
    with (workdir / "log").open("w") as log:
        process = subprocess.Popen(
            [SWEEP, "ui", "small", "--port", str(port)], stdout=log, stderr=log
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", 120)
        assert ("127.0.0.1", port) in {one[:2] for one in listening(process.pid)}
        assert beyond_loopback(process.pid) == []
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "127.1.2.3:1", "[::1]:6379", "localhost:1"])
def test_a_ray_on_loopback_needs_no_token(monkeypatch, address):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    assert fanout.unguarded(address) == ""


def test_a_ray_beyond_loopback_does(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    line = fanout.unguarded("10.0.0.5:6379")
    assert line.startswith("warning: whoever reaches the Ray at 10.0.0.5:6379 can run programs")
    assert line.endswith("set RAY_AUTH_MODE=token on all of its nodes and here")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert fanout.unguarded("10.0.0.5:6379") == ""


DRIVER = "from sweep.execution import fanout\nwith fanout.session(print):\n    pass\n"


@pytest.mark.slow
def test_a_cluster_with_tokens_is_not_warned_of():
    """A real head on the machine's own address; ``test_jobs.py`` has one that asks for none."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        environment |= {"RAY_AUTH_MODE": "token", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
        (Path(folder) / "token").write_text("a-token-of-this-test-alone" * 2)
        environment["RAY_AUTH_TOKEN_PATH"] = f"{folder}/token"
        port = free_port()
        start = [
            RAY, "start", "--head", "--num-cpus=1", f"--port={port}", f"--temp-dir={folder}/r",
            "--include-dashboard=false", "--block",
        ]  # fmt: skip
        with Path(folder, "log").open("w") as log:
            head = subprocess.Popen(
                list(map(str, start)), env=environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        try:
            address = own_address(port)
            done = subprocess.run(
                [sys.executable, "-c", DRIVER],
                env=environment | {"RAY_ADDRESS": f"{address}:{port}"},
                capture_output=True, text=True, timeout=180, check=False,
            )  # fmt: skip
        finally:
            os.killpg(head.pid, signal.SIGTERM)
            head.wait(60)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == ""


def own_address(port):
    """Where a head says that it listens, once it does."""
    end = time.monotonic() + 90
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 53))  # sends nothing: it asks the routing table alone
        address = probe.getsockname()[0]
    while True:
        try:
            with socket.create_connection((address, port), timeout=2):
                return address
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.3)
