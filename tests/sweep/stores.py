"""What the tests of stores share: a run to track, and a way to the tracker that can be cut."""

import contextlib
import multiprocessing
import socket
import threading
import time
import urllib.parse

import numpy as np

from hardness.dynamics.folder import write_epoch
from hardness.dynamics.record import EpochRecord
from hardness.files import fingerprint
from sweep.experiment.runs import Configuration, RunSpec
from sweep.store.mlflow_store import Store

CONFIGURATION = Configuration(
    regimen="supervised",
    numerics_version=1,
    dataset={"name": "digits", "digest": "d", "data_seed": 0},
    model={"name": "mlp"},
    options={"train": {"lr": 0.1}},
)
RUN = RunSpec(configuration=CONFIGURATION, seed=3)


def started(store, run=RUN):
    parent = store.save_configuration(CONFIGURATION, {"train.lr": 0.1}, 0)
    return store.start_run(run, parent, {"git_commit": "abc"})


def numbers(seed, epoch):
    """What a run logs of an epoch."""
    return {"train_loss": seed + 1 / (epoch + 1), "val_loss": epoch + 1 / (seed + 1)}


def log_all(address, parent, seed, epochs, folder, barrier, results):
    """As a worker: one run, at the same time as all others; sends what it stored, or the error."""
    try:
        store, run = Store(*address), RunSpec(configuration=CONFIGURATION, seed=seed)
        barrier.wait(120)
        tracking_run = store.start_run(run, parent, {})
        sent = {}
        for epoch in range(epochs):
            loss = np.random.default_rng([seed, epoch]).normal(size=500)
            record = EpochRecord(epoch=epoch, signals={"loss": loss}, summary=numbers(seed, epoch))
            (name,) = write_epoch(folder, record)
            store.upload(tracking_run, folder / name, name)
            store.log_epoch(tracking_run, epoch, record.summary)
            sent[name] = fingerprint(folder / name)
        store.finish(tracking_run)
    except Exception as error:  # noqa: BLE001 - the test's to judge
        results.put((seed, repr(error)))
    else:
        results.put((seed, sent))


def at_once(store, workers, epochs, folder):
    """So many processes log a run each at the same time; gives what each sent, by its seed."""
    context = multiprocessing.get_context("forkserver")
    # Each of them would import these anew, which takes a minute of sixteen.
    context.set_forkserver_preload(["pytest", "stores", "mlflow.store.tracking.sqlalchemy_store"])
    parent = store.save_configuration(CONFIGURATION, {}, 0)
    barrier, results = context.Barrier(workers), context.Queue()
    processes = [
        context.Process(
            target=log_all,
            args=[store.address, parent, seed, epochs, folder / str(seed), barrier, results],
        )
        for seed in range(workers)
    ]
    for process in processes:
        process.start()
    sent = dict(results.get(timeout=240) for _ in processes)
    for process in processes:
        process.join(30)
    return sent


def make(uri, name, barrier, results):
    """As a driver: a sweep of its own in a store that nobody has made yet."""
    barrier.wait(120)
    try:
        results.put((name, Store.create(uri, name).experiment_id))
    except Exception as error:  # noqa: BLE001 - the test's to judge
        results.put((name, repr(error)))


def made_at_once(uri, names):
    """So many drivers make a sweep each in the same new store; gives its id, or the error."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "stores", "mlflow.store.tracking.sqlalchemy_store"])
    barrier, results = context.Barrier(len(names)), context.Queue()
    processes = [context.Process(target=make, args=[uri, n, barrier, results]) for n in names]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=240) for _ in processes)
    for process in processes:
        process.join(30)
    return found


def until(condition, seconds=30):
    """Wait for something that another thread or process brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not come about within {seconds} s"
        time.sleep(0.02)


class Line:
    """A TCP relay on loopback to a real server: while it is cut, nobody answers at its address.

    Args:
        address: Of the server.
        word: Cuts the line when it passes, if any.
    """

    def __init__(self, address, word=None):
        parts = urllib.parse.urlsplit(address)
        self.target, self.word = (parts.hostname, parts.port), word
        self.port, self.open = 0, set()
        self.mend()
        self.address = f"http://127.0.0.1:{self.port}"

    def mend(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, args=[self.listener], daemon=True).start()

    def cut(self):
        # A listener that a thread waits on closes only once it is shut down.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for end in [*self.open]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.cut()

    def _accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                ends = listener.accept()[0], socket.create_connection(self.target)
                self.open |= {*ends}
                for source, sink in (ends, ends[::-1]):
                    threading.Thread(target=self._pump, args=[source, sink], daemon=True).start()

    def _pump(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self.word and self.word in data:
                    self.cut()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()
        self.open.discard(source)
