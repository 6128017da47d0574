"""What recording and streaming a run's signals add to training and evaluating it."""

from hardness.dynamics import Recording
from hardness.training.supervised import supervised
from sweep.trial import run_pack
from tests.benchmarks import setting
from tests.benchmarks.figures import Figure, ratio

NOTHING = Recording(signals=False, snapshots=())


def measure(pairs: int) -> list[Figure]:
    """A whole run (spool, upload to SQLite, manifest) over the same loop that keeps nothing."""
    dataset = setting.images()
    configured = setting.configuration(dataset)
    with setting.store("recording") as (store, places):
        packs = setting.packs(store, configured, range(pairs + 1))

        def recorded(pair):
            reports = list(run_pack(packs[pair], dataset, places))
            assert reports[-1].state == "done"

        def unrecorded(pair):
            streams = setting.streams(pair, configured.configuration_id)
            train(dataset, streams)

        what = f"recording and streaming all signals: {setting.SIZE}, {setting.EPOCHS} epochs"
        return [ratio(what, "<= 1.05", recorded, unrecorded, pairs)]


def train(dataset, streams):
    """The regimen's own loop, evaluated after each epoch, nothing kept."""
    options = setting.supervised()
    records = supervised(dataset, setting.MODEL, options, streams, recording=NOTHING)
    return [record.summary for record in records][-1]
