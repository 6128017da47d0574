"""``cluster.yaml`` is one that Ray accepts, and says what a GPU cluster needs."""

import copy
from pathlib import Path

import pytest
from ray.autoscaler._private.util import prepare_config, validate_config
from ruamel.yaml import YAML

FILE = Path(__file__).parents[2] / "cluster.yaml"


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


def test_the_head_runs_the_tracker_and_no_training(config):
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"]["CPU"] == 0
    commands = "\n".join(config["head_start_ray_commands"])
    assert "mlflow server" in commands
    assert "--dashboard-host=127.0.0.1" in commands
    assert "/shared" in "\n".join(config["setup_commands"])
