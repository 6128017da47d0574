"""Peak resident memory of a process and of the workers of its Ray, read from Linux's /proc."""

import contextlib
import os
import threading
import time
from pathlib import Path

EVERY_S = 0.05
LOOK_FOR_WORKERS_S = 0.5


class Memory:
    """Samples while it is entered; ``found`` and ``note`` say what it saw.

    Counted are this process and every worker that Ray's raylet started under it, idle ones and
    Ray Data's own actors included; not the raylet, the control store and the agents. Ray's object
    store is memory that several of them map: of their shared memory only the largest part of one
    process counts, so that an object in the store counts once.
    """

    def __enter__(self):
        self._peak, self._each, self._parts = 0, 0, ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        self.found = f"{self._peak / 1e9:.2f} GB"
        self.note = f"{self._parts}; with the store in every process that maps it "
        self.note += f"{self._each / 1e9:.2f} GB"

    def _watch(self):
        processes, looked = [], -LOOK_FOR_WORKERS_S
        while not self._over.wait(EVERY_S):
            if time.monotonic() - looked > LOOK_FOR_WORKERS_S:
                processes, looked = [os.getpid(), *_workers()], time.monotonic()
            seen = [memory for pid in processes if (memory := _resident(pid))]
            own, shared = [m[0] for m in seen], [m[1] for m in seen]
            self._each = max(self._each, sum(own) + sum(shared))
            if sum(own) + max(shared) > self._peak:
                self._peak = sum(own) + max(shared)
                largest = " ".join(f"{m / 1e6:.0f}" for m in sorted(own[1:], reverse=True))
                self._parts = (
                    f"driver {own[0] / 1e6:.0f} MB, workers {largest} MB, "
                    f"store {max(shared) / 1e6:.0f} MB"
                )


def _workers():
    """Ray's workers below this process."""
    parents, titles = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                # The name may hold spaces and brackets; state and parent follow the last one.
                after_name = (folder / "stat").read_text().rpartition(")")[2]
                parents[int(folder.name)] = int(after_name.split()[1])
                titles[int(folder.name)] = (folder / "cmdline").read_text()
    found = []
    for pid, title in titles.items():
        ancestor = pid
        while ancestor in parents and ancestor != os.getpid():
            ancestor = parents[ancestor]
        if ancestor == os.getpid() and title.startswith("ray::") and "Agent" not in title:
            found.append(pid)
    return found


def _resident(pid):
    """Bytes of a process's own and of its shared memory; None once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}
    if not kib:
        return None
    return 1024 * (kib["RssAnon"] + kib["RssFile"]), 1024 * kib["RssShmem"]
