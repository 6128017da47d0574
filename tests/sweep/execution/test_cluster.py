"""``cluster.yaml`` is one that Ray accepts, and says what a GPU cluster needs."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from ray.autoscaler._private.util import prepare_config, validate_config
from ruamel.yaml import YAML

from tests.conftest import free_port, wait_for
from tests.sweep.listening import listening

FILE = Path(__file__).parents[3] / "cluster.yaml"


@pytest.fixture
def config():
    return YAML(typ="safe", pure=True).load(FILE.read_text())


def test_it_is_valid_against_the_schema_of_ray(config):
    validate_config(prepare_config(copy.deepcopy(config)))


def test_the_schema_can_refuse(config):
    config["available_node_types"]["gpu"]["no_such_key"] = 1
    with pytest.raises(Exception, match="no_such_key"):
        validate_config(prepare_config(copy.deepcopy(config)))


def test_workers_scale_between_bounds_that_fit(config):
    gpu = config["available_node_types"]["gpu"]
    assert 0 <= gpu["min_workers"] <= gpu["max_workers"] <= config["max_workers"]
    assert gpu["resources"]["GPU"] >= 1
    assert gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_mounted_files_exist(config):
    for source in config["file_mounts"].values():
        assert (FILE.parent / source).exists()


@pytest.mark.slow
def test_the_tracker_answers_under_the_head_s_own_address_alone(config, tmp_path):
    """The line as it stands, with programs of its names that say where they were called."""
    (line,) = [c for c in config["head_start_ray_commands"] if "mlflow server" in c]
    assert "'*'" not in line
    port = free_port()
    for name, text in {
        "hostname": "case $1 in -I) echo 127.0.0.1 10.0.0.9 ;; *) echo head.internal ;; esac",
        "pgrep": "exit 1",
        "mlflow": f'exec {sys.executable} -m mlflow "$@"',
        "nohup": 'echo $$ > "$FOLDER/pid"; exec "$@"',
    }.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    line = line.replace("/shared/mlflow", str(tmp_path)).replace("5000", str(port))
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-c", line], env=os.environ | {"PATH": path, "FOLDER": str(tmp_path)}, check=True
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", 120)
        pid = int((tmp_path / "pid").read_text())
        assert {address for address, *_ in listening(pid)} == {"127.0.0.1"}

        def answer(host):
            address = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search"
            content = {"max_results": 1}
            return requests.post(address, json=content, headers={"Host": host}, timeout=30)

        assert answer(f"127.0.0.1:{port}").status_code == 200
        assert answer(f"head.internal:{port}").status_code == 200
        assert answer("evil.example").status_code == 403
        assert answer(f"evil.example:{port}").status_code == 403
    finally:
        os.kill(int((tmp_path / "pid").read_text()), 15)


def test_the_head_runs_the_tracker_and_no_training(config):
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"]["CPU"] == 0
    commands = "\n".join(config["head_start_ray_commands"])
    assert "mlflow server" in commands
    assert "--dashboard-host=127.0.0.1" in commands
    assert "/shared" in "\n".join(config["setup_commands"])
