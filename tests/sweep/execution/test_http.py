"""The main job against an MLflow server over HTTP gives the tables that SQLite gives."""

import uuid

import pandas as pd
import pytest

from tests.sweep.sweeps import FEW, command, experiment

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


def test_the_tracker_does_not_change_the_tables(workdir, server):
    name = f"same-{uuid.uuid4().hex[:8]}"
    path = experiment(workdir, name=name, epochs=3, lrs="[0.1]", metrics=FEW)
    tables = {}
    for place, more in {"local": (), "http": (f"tracking_uri={server}",)}.items():
        code, _, err = command(
            "run", path, "--no-figures", f"storage_path={workdir / place}", *more
        )
        assert code == 0, err
        folder = workdir / place / name
        tables[place] = [
            pd.read_csv(folder / "stability.csv"),
            pd.read_csv(folder / "agreement.csv"),
            pd.read_parquet(folder / "samples.parquet"),
        ]
    for local, http in zip(tables["local"], tables["http"], strict=True):
        pd.testing.assert_frame_equal(local, http, check_exact=True)
