"""Every kind of store under many workers at once: no error, nothing lost, nothing twice."""

import uuid

import pytest

from hardness.files import fingerprint
from sweep.experiment.addresses import default_uri
from sweep.store.mlflow_store import Store
from tests.sweep.stores import at_once, made_at_once, numbers

pytestmark = pytest.mark.slow
WORKERS, EPOCHS = 16, 3


@pytest.mark.parametrize("kind", ["embedded", "server", "server_on_postgres"])
def test_many_workers_at_once(kind, workdir, request):
    uri = default_uri() if kind == "embedded" else request.getfixturevalue(kind)
    store = Store.create(uri, f"many {uuid.uuid4().hex[:8]}")
    sent = at_once(store, WORKERS, EPOCHS, workdir)
    assert not [error for error in sent.values() if isinstance(error, str)]

    found = store.client.search_runs([store.experiment_id], "tags.role = 'run'")
    assert sorted(int(run.data.params["seed"]) for run in found) == [*range(WORKERS)]
    for run in found:
        seed, tracking_run = int(run.data.params["seed"]), run.info.run_id
        assert run.info.status == "FINISHED"
        assert {*store.files(tracking_run)} == {*sent[seed]}
        for name, expected in sent[seed].items():
            path = store.download(tracking_run, name, workdir / f"back-{seed}")
            assert fingerprint(path) == expected
        for key in numbers(0, 0):
            points = store.client.get_metric_history(tracking_run, key)
            assert sorted((p.step, p.timestamp, p.value) for p in points) == [
                (epoch, epoch, numbers(seed, epoch)[key]) for epoch in range(EPOCHS)
            ]


def test_drivers_that_make_the_same_store_at_once(tmp_path):
    uri = f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"
    found = made_at_once(uri, [f"sweep {number}" for number in range(3)])
    assert {*found} == {f"sweep {number}" for number in range(3)}
    assert not [error for error in found.values() if not error.isdecimal()]
    for name, experiment_id in found.items():
        assert Store.find(uri, name).experiment_id == experiment_id
