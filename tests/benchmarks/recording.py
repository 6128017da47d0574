"""What recording and streaming a run's signals add to training and evaluating it."""

import dataclasses

from hardness.dynamics.record import Recording
from hardness.training.supervised import supervised
from sweep.execution.trial import run_pack
from tests.benchmarks import setting, storage
from tests.benchmarks.figures import Figure, ratio

NOTHING = Recording(signals=False, snapshots=())


def measure(pairs: int) -> list[Figure]:
    """A whole run (spool, upload to SQLite, manifest) over the same loop that keeps nothing.

    Once with the logits alone, once with the last embedding and its neighbors: a search that a run
    makes once, however many epochs it has.
    """
    dataset = setting.images()
    configured = setting.configuration(dataset)
    size = f"{setting.SIZE}, {setting.EPOCHS} epochs"

    def unrecorded(pair):
        train(dataset, setting.streams(pair, configured.configuration_id))

    def against(what, asked, recording):
        with storage.store("recording") as (store, places):
            packs = setting.packs(store, configured, range(pairs + 1))
            here = dataclasses.replace(places, recording=recording)

            def recorded(pair):
                reports = list(run_pack(packs[pair], dataset, here))
                assert reports[-1].state == "done"

            return ratio(f"{what}: {size}", asked, recorded, unrecorded, pairs)

    logits = Recording(snapshots=("logits",))
    return [
        against("recording and streaming all logit signals", "<= 1.05", logits),
        against("the same and neighbors of the last embedding", "", Recording()),
    ]


def train(dataset, streams):
    """The regimen's own loop, evaluated after each epoch, nothing kept."""
    options = setting.supervised()
    records = supervised(dataset, setting.MODEL, options, streams, recording=NOTHING)
    return [record.summary for record in records][-1]
