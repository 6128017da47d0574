"""What the tests of stores share: a run to track, and a way to the tracker that can be cut."""

import contextlib
import socket
import threading
import time
import urllib.parse

from sweep.spec import Configuration, RunSpec

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


def until(condition, seconds=30):
    """Wait for something that another thread or process brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not come about within {seconds} s"
        time.sleep(0.02)


class Line:
    """A TCP relay on loopback to a real server: while it is cut, nobody answers at its address."""

    def __init__(self, address):
        parts = urllib.parse.urlsplit(address)
        self.target = parts.hostname, parts.port
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
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()
        self.open.discard(source)
