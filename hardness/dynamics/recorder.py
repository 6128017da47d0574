"""Record the dynamics of any training loop in the same folder layout that a sweep writes."""

import json
import operator
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, Int64
from safetensors.numpy import load_file
from torch import Tensor

from hardness.dynamics.folder import (
    MANIFEST,
    SAMPLES,
    SPEC,
    Manifest,
    epoch_file,
    samples_table,
    snapshot_file,
    write_epoch,
    write_manifest,
    write_samples,
    write_snapshots,
    write_spec,
)
from hardness.dynamics.provenance import circumstances
from hardness.dynamics.record import UNKNOWN, Diverged, EpochRecord, Recording
from hardness.files import UNREADABLE, fingerprint
from hardness.limits import LOGITS_GIB
from hardness.metrics.registry import SEEN, TRAINED_ON
from hardness.signals import logits as logit_signals
from hardness.signals.names import LOGIT_SIGNALS, TRAIN_PHASE
from hardness.signals.tracking import EmbeddingTracker, snapshots

_KEPT = ("emb", "logits")


class Recorder:
    """Turns the logits of a training loop into a run's folder, epoch by epoch.

    The loop needs two lines: ``record`` after the logits and ``end_epoch`` at the end of the epoch.
    The DataLoader must yield the sample ids. Batches of the training step have the phase ``train``
    (augmented images, dropout on, weights that change between batches) and give the metrics
    ``*.train``. A pass over all samples with ``model.eval()`` after the epoch is recorded with
    ``phase="eval"`` and gives all other metrics. One recorder takes either phase or both.

    A sample missing from an epoch counts as unseen, and metrics skip that epoch. If a sample comes
    twice, as padding of a distributed sampler or drawn with replacement, the last presentation
    counts. The epoch's summary counts unseen samples and repeated presentations.

    Every epoch must have the same phases and arrays as the first. If the loop fails, the folder has
    no manifest and is unfinished. A new recorder on that folder continues at any epoch up to
    ``recorder.epoch`` and deletes the recorded epochs from there on. Distributed training must
    gather its batches and record them in one process.

    Args:
        folder: Folder of the run: new, empty, or that of an unfinished run.
        labels: Labels that training uses, one per sample id; if left out, pass them with batches.
        sample_ids: Whole numbers that name the samples the same way in every run; positions in
            ``labels``, if left out.
        seed: Seed of this run. Runs that differ in the seed alone belong to one configuration.
        configuration: Name of this run's configuration in tables.
        parameters: Further values that tell configurations apart, shown in tables.
        regimen: How training uses labels, a key of ``hardness.metrics.registry.TRAINED_ON``:
            ``supervised``, or for example ``contrastive`` if training never sees labels.
        columns: Further columns of the table of samples, such as the true label, in the order of
            ``sample_ids``.
        keep_logits: Whether to keep the logits of the last eval pass, for metrics over several
            runs; if left out, they are kept up to 1 GiB.

    Raises:
        ValueError: In one line, if an argument is invalid, or the folder holds a finished run or
            one with other settings.

    Example:
        In a loop over a ``DataLoader`` of ``(sample_ids, images, labels)``::

            with Recorder("runs/seed-0", labels=labels, seed=0) as recorder:
                for epoch in range(epochs):
                    for sample_ids, images, targets in loader:
                        logits = model(images)
                        ...
                        recorder.record(epoch, sample_ids, logits)
                    recorder.end_epoch()
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        labels: Any = None,
        sample_ids: Any = None,
        seed: int = 0,
        configuration: str = "default",
        parameters: Mapping[str, Any] | None = None,
        regimen: str = "supervised",
        columns: pd.DataFrame | None = None,
        keep_logits: bool | None = None,
    ) -> None:
        if labels is None and sample_ids is None:
            raise ValueError("expected labels or sample_ids; got neither")
        options = {**(parameters or {}), "configuration": configuration}
        if "configuration" in (parameters or {}) or not _is_json(options):
            raise ValueError(
                "parameters: expected JSON values without the key 'configuration'; got "
                f"{parameters!r}"
            )
        if regimen not in TRAINED_ON:
            raise ValueError(f"regimen: expected one of {', '.join(TRAINED_ON)}; got {regimen!r}")
        given = None if labels is None else _whole_numbers(labels, "labels")
        ids = _whole_numbers(
            np.arange(len(given)) if sample_ids is None and given is not None else sample_ids,
            "sample_ids",
        )
        if given is not None and len(given) != len(ids):
            raise ValueError(f"expected a label for each of {len(ids)} samples; got {len(given)}")
        if columns is not None and len(columns) != len(ids):
            raise ValueError(f"columns: expected {len(ids)} rows; got {len(columns)}")
        order = np.argsort(ids, kind="stable")
        self._ids = ids[order]
        repeated = self._ids[1:][self._ids[1:] == self._ids[:-1]]
        if len(repeated):
            raise ValueError(f"sample_ids: expected each id once; got {repeated[0]} twice")
        self._labels = np.full(len(ids), UNKNOWN) if given is None else given[order]
        if given is not None:
            _check_labels(given)
        self.folder = Path(folder)
        self.epoch = 0
        self._run = described(options, regimen=regimen, seed=operator.index(seed))
        self._columns = None if columns is None else columns.iloc[order]
        self._keep_logits = keep_logits
        self._classes = 0
        self._device = torch.device("cpu")
        self._kinds: dict[str, frozenset[str]] = {}
        self._passes: dict[str, _Pass] = {}
        self._tracker = EmbeddingTracker()
        self._last: dict[str, np.ndarray] = {}
        self._closed = False
        self._may_go_back = self._take_up()

    def record(
        self,
        epoch: int,
        sample_ids: Any,
        logits: Any = None,
        *,
        labels: Any = None,
        embeddings: Any = None,
        phase: str = "train",
    ) -> None:
        """Record a batch; gradients are not affected.

        Args:
            epoch: Number of the epoch, from 0.
            sample_ids: Sample id of each row of the batch, from the DataLoader.
            logits: Floats ``[batch, classes]`` before the softmax, on any device; may be left out
                if there are embeddings.
            labels: Labels that training uses; needed if the recorder was given none.
            embeddings: Floats ``[batch, width]`` from the encoder, only with ``phase="eval"``:
                movement between epochs means nothing if weights change between batches.
            phase: ``train``, or ``eval`` for a pass over all samples with fixed weights.

        Raises:
            ValueError: In one line, if the batch does not fit the recorder or its arrays differ in
                length.
        """
        if phase not in ("train", "eval"):
            raise ValueError(f"phase: expected 'train' or 'eval'; got {phase!r}")
        if embeddings is not None and phase == "train":
            raise ValueError(
                "expected embeddings with phase='eval' only; got embeddings with phase='train'"
            )
        arrays = {"logits": logits, "emb": embeddings}
        given = {k: _matrix(v, k) for k, v in arrays.items() if v is not None}
        if not given:
            raise ValueError("expected logits, embeddings or both; got neither")
        rows = self._rows(sample_ids, given)
        self._enter(epoch)
        self._learn(rows, labels)
        self._same_kind(phase, given)
        found = {k: v.float().cpu().numpy() for k, v in given.items() if self._keeps(phase, k)}
        if "logits" in given:
            self._device = given["logits"].device
            found |= _from_logits(given["logits"], torch.from_numpy(self._labels[rows]), phase)
        self._passes.setdefault(phase, _Pass(len(self._ids))).put(rows, found)

    def end_epoch(self, **summary: float) -> None:
        """Write the epoch that was recorded.

        Args:
            **summary: Numbers of the whole epoch, such as ``lr``, or ``val_accuracy`` for a search
                or a comparison of configurations.

        Raises:
            Diverged: If a logit is NaN or infinite; the run stays unfinished.
            ValueError: If a phase of this epoch has no batches.
        """
        lacking = [phase for phase in self._kinds if phase not in self._passes]
        if not self._passes or lacking:
            which = f" in phase {lacking[0]!r}, as in the epochs before" if lacking else ""
            raise ValueError(f"expected batches of epoch {self.epoch}{which}; got none")
        found: dict[str, np.ndarray] = {}
        numbers = {name: float(value) for name, value in summary.items()}
        for phase, one in self._passes.items():
            suffix = ".train" if phase == "train" else ""
            self._check_finite(one)
            found |= {f"{k}{suffix}": v for k, v in one.arrays.items() if k in LOGIT_SIGNALS}
            found[f"{SEEN}{suffix}"] = one.seen
            numbers[f"unseen{suffix}"] = float(np.count_nonzero(~one.seen))
            numbers[f"repeated{suffix}"] = float(one.repeated)
        kept: dict[str, np.ndarray] = {}
        if "eval" in self._passes:
            clean = self._passes["eval"]
            self._last = kept = {k: clean.arrays[k] for k in _KEPT if k in clean.arrays}
            if "emb" in kept:
                found |= self._moved(kept["emb"], clean.seen)
                kept = {**kept, "emb": self._before()}
        self._write(EpochRecord(epoch=self.epoch, signals=found, summary=numbers, snapshots=kept))
        self._passes, self._may_go_back = {}, False
        self.epoch += 1

    def close(self) -> None:
        """Finish the run: write the neighbors of the last embedding, then the manifest.

        Raises:
            ValueError: If the last epoch was not ended, or there is no epoch.
        """
        if self._closed:
            return
        if self._passes:
            raise ValueError(f"expected end_epoch() after epoch {self.epoch}; got close()")
        if not self.epoch:
            raise ValueError(f"{self.folder}: expected at least one epoch; got none")
        kept = {name: torch.from_numpy(values) for name, values in self._last.items()}
        wanted = Recording().snapshots if "emb" in kept else ("logits",)
        arrays = snapshots(wanted, kept)
        names = [SAMPLES, SPEC, *map(epoch_file, range(self.epoch))]
        names += write_snapshots(self.folder, self.epoch - 1, arrays)
        manifest = Manifest(
            epochs=self.epoch,
            rows=len(self._ids),
            signals=(*self._signals(0), *arrays),
            files={name: fingerprint(self.folder / name) for name in names},
        )
        write_manifest(self.folder, manifest)
        self._closed = True

    def __enter__(self) -> "Recorder":  # noqa: PYI034 - beartype knows Self in its own classes only
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()

    def _rows(self, sample_ids: Any, given: Mapping[str, Tensor]) -> Int64[np.ndarray, " batch"]:
        """Row of each sample id in the run's files."""
        ids = _whole_numbers(sample_ids, "sample_ids")
        strange = {k: len(v) for k, v in given.items() if len(v) != len(ids)}
        if strange:
            raise ValueError(
                f"expected as many rows as the batch has sample_ids, {len(ids)}; got "
                + ", ".join(f"{count} of {name}" for name, count in strange.items())
            )
        rows = np.searchsorted(self._ids, ids)
        known = rows < len(self._ids)
        known[known] = self._ids[rows[known]] == ids[known]
        if not known.all():
            raise ValueError(
                f"sample_ids: expected ids among the {len(self._ids)} given to the recorder; got "
                f"{ids[~known][0]}: let the Dataset yield each sample's own id"
            )
        return rows

    def _enter(self, epoch: int) -> None:
        """Open this epoch unless it is open already."""
        if self._closed:
            raise ValueError(f"{self.folder}: expected an open recorder; got a batch after close")
        if operator.index(epoch) == self.epoch:
            return
        if self._passes:
            raise ValueError(f"expected end_epoch() after epoch {self.epoch}; got epoch {epoch}")
        if epoch > self.epoch or epoch < 0:
            raise ValueError(f"expected epoch {self.epoch}, counted from 0; got epoch {epoch}")
        if not self._may_go_back:
            raise ValueError(f"expected epoch {self.epoch}; got epoch {epoch}, which has ended")
        self._go_back(epoch)

    def _learn(self, rows: Int64[np.ndarray, " batch"], labels: Any) -> None:
        """Store the labels of a batch after comparing them with the labels known before."""
        if labels is not None:
            given = _whole_numbers(labels, "labels")
            if len(given) != len(rows):
                raise ValueError(f"expected a label for each of {len(rows)} rows; got {len(given)}")
            _check_labels(given)
            known = self._labels[rows]
            differs = (known != UNKNOWN) & (known != given)
            if differs.any():
                sample = self._ids[rows[differs][0]]
                raise ValueError(
                    f"labels: expected {known[differs][0]} for sample {sample}, as before; got "
                    f"{given[differs][0]}"
                )
            self._labels[rows] = given
        elif (self._labels[rows] == UNKNOWN).any():
            raise ValueError("expected labels, with the recorder or with the batch; got none")

    def _same_kind(self, phase: str, given: Mapping[str, Tensor]) -> None:
        kind = self._kinds.get(phase)
        if kind is None:
            if self.epoch:
                raise ValueError(f"expected only the phases of epoch 0; got {phase!r} as well")
            self._kinds[phase] = kind = frozenset(given)
        if kind != given.keys():
            expected, got = (" and ".join(sorted(names)) for names in (kind, given))
            raise ValueError(f"phase {phase!r}: expected {expected} in every batch; got {got}")
        if "logits" in given:
            classes = given["logits"].shape[1]
            if self._classes not in (0, classes):
                raise ValueError(f"logits: expected {self._classes} classes; got {classes}")
            self._classes = classes

    def _keeps(self, phase: str, name: str) -> bool:
        gib = 4 * len(self._ids) * self._classes / 2**30
        logits = gib <= LOGITS_GIB if self._keep_logits is None else self._keep_logits
        return phase == "eval" and (name == "emb" or logits)

    def _check_finite(self, one: "_Pass") -> None:
        if "p_label" not in one.arrays:
            return
        strange = one.seen & np.isnan(one.arrays["p_label"])
        if strange.any():
            raise Diverged(
                f"expected finite logits; got NaN or infinity for {np.count_nonzero(strange)} "
                f"samples in epoch {self.epoch}, such as sample {self._ids[strange][0]}"
            )

    def _moved(self, emb: np.ndarray, seen: np.ndarray) -> dict[str, np.ndarray]:
        """Signals of the embedding; movement counts from the epoch that last saw the sample."""
        before = self._tracker.previous
        found = self._tracker.update(torch.from_numpy(emb))
        if before is not None:
            now = torch.from_numpy(emb)
            self._tracker.previous = torch.where(torch.from_numpy(seen)[:, None], now, before)
        return found

    def _before(self) -> np.ndarray:
        """Each sample's last seen embedding, with which a later epoch is compared."""
        assert self._tracker.previous is not None
        return self._tracker.previous.numpy()

    def _write(self, record: EpochRecord) -> None:
        """Write an epoch after the spec and samples; then delete the previous snapshots."""
        classes = self._classes or int(self._labels.max(initial=-1)) + 1
        content = {
            "run": self._run,
            "classes": [str(one) for one in range(classes)],
            **circumstances(self._device),
        }
        write_spec(self.folder, content)
        table = samples_table(
            sample_ids=self._ids.tolist(), labels=self._labels.tolist(), columns=self._columns
        )
        write_samples(self.folder, table)
        write_epoch(self.folder, record)
        if record.epoch:
            (self.folder / snapshot_file(record.epoch - 1)).unlink(missing_ok=True)

    def _signals(self, epoch: int) -> list[str]:
        return list(pq.read_schema(self.folder / epoch_file(epoch)).names)

    def _take_up(self) -> bool:
        """Continue the unfinished run in the folder; returns whether there is one."""
        there = {p.name for p in self.folder.iterdir()} if self.folder.is_dir() else set()
        # A run that was killed before its first complete file leaves only these.
        if all(name.endswith(".partial") for name in there):
            return False
        if (self.folder / MANIFEST).exists():
            raise ValueError(f"{self.folder}: expected a new folder; got a finished run")
        try:
            spec = json.loads((self.folder / SPEC).read_bytes())
            run, classes = spec["run"], len(spec["classes"])
            if not (self.folder / epoch_file(0)).is_file():
                return False
            samples = pd.read_parquet(self.folder / SAMPLES)
            ids, labels = samples["sample_id"].to_numpy(), samples["label"].to_numpy()
            while (self.folder / epoch_file(self.epoch)).is_file():
                self.epoch += 1
            self._restore()
        except UNREADABLE as error:
            raise ValueError(
                f"{self.folder}: expected a new folder or an unfinished run; got {error!r}"
            ) from error
        if run != json.loads(json.dumps(self._run)):
            raise ValueError(f"{self.folder}: expected the unfinished run {run}; got {self._run}")
        if not np.array_equal(ids, self._ids) or self._contradicts(labels):
            raise ValueError(
                f"{self.folder}: expected the sample ids and labels of the unfinished run; got "
                "others"
            )
        self._labels = np.where(labels != UNKNOWN, labels, self._labels)
        self._classes = classes if any("logits" in kind for kind in self._kinds.values()) else 0
        return True

    def _contradicts(self, labels: np.ndarray) -> bool:
        known = (labels != UNKNOWN) & (self._labels != UNKNOWN)
        return bool((labels != self._labels)[known].any())

    def _restore(self) -> None:
        """Rewind to the end of the last complete epoch."""
        self._kinds, self._last, self._tracker = {}, {}, EmbeddingTracker()
        if not self.epoch:
            return
        columns = {*self._signals(self.epoch - 1)}
        for phase, suffix in (("train", ".train"), ("eval", "")):
            if f"{SEEN}{suffix}" in columns:
                kind = {"logits"} if f"p_label{suffix}" in columns else set()
                kind |= {"emb"} if phase == "eval" and "feature_norm" in columns else set()
                self._kinds[phase] = frozenset(kind)
        if "eval" not in self._kinds:
            return
        path = self.folder / snapshot_file(self.epoch - 1)
        if not path.is_file():
            if "emb" in self._kinds["eval"]:
                # The epoch's file was written, but not its embeddings.
                self.epoch -= 1
                self._restore()
            return
        self._last = {k: v for k, v in load_file(path).items() if k in _KEPT}
        if "emb" in self._last:
            seen = pd.read_parquet(self.folder / epoch_file(self.epoch - 1), columns=[SEEN])[SEEN]
            self._tracker.previous = torch.from_numpy(self._last["emb"])
            self._last["emb"] = np.where(seen.to_numpy()[:, None], self._last["emb"], np.nan)

    def _go_back(self, epoch: int) -> None:
        """Delete the files of this epoch and all later ones, which are trained again."""
        moved = any("emb" in kind for kind in self._kinds.values())
        if epoch and moved and not (self.folder / snapshot_file(epoch - 1)).is_file():
            raise ValueError(
                f"{self.folder}: expected epoch {self.epoch} or 0, since only the last epoch's "
                f"embeddings are kept; got epoch {epoch}"
            )
        for dropped in reversed(range(epoch, self.epoch)):
            (self.folder / epoch_file(dropped)).unlink()
            (self.folder / snapshot_file(dropped)).unlink(missing_ok=True)
        self.epoch = epoch
        self._restore()


def described(options: Mapping[str, Any], *, regimen: str, seed: int) -> dict[str, Any]:
    """Content of the spec of an external run: only what tells it apart from other runs."""
    configuration = {
        "regimen": regimen,
        "numerics_version": 0,
        "dataset": {"name": "recorded"},
        "model": {},
        "options": dict(options),
        "vary": [],
    }
    return {"configuration": configuration, "seed": seed}


class _Pass:
    """Arrays collected from the batches of one epoch and phase."""

    def __init__(self, samples: int) -> None:
        self.seen = np.zeros(samples, dtype=bool)
        self.repeated = 0
        self.arrays: dict[str, np.ndarray] = {}

    def put(self, rows: np.ndarray, found: Mapping[str, np.ndarray]) -> None:
        for name, values in found.items():
            if name not in self.arrays:
                shape = len(self.seen), *values.shape[1:]
                nothing = False if values.dtype == bool else np.nan
                self.arrays[name] = np.full(shape, nothing, values.dtype)
            if self.arrays[name].shape[1:] != values.shape[1:]:
                expected, got = self.arrays[name].shape[1], values.shape[1]
                raise ValueError(f"{name}: expected {expected} columns; got {got}")
            # If a row repeats, its last values stay.
            self.arrays[name][rows] = values
        self.repeated += len(rows) - int(np.count_nonzero(~self.seen[np.unique(rows)]))
        self.seen[rows] = True


def _from_logits(logits: Tensor, labels: Tensor, phase: str) -> dict[str, np.ndarray]:
    found = logit_signals.from_logits(logits, labels)
    names = TRAIN_PHASE if phase == "train" else LOGIT_SIGNALS
    # One copy from the device for all signals.
    rows = torch.stack([found[name].float() for name in names]).cpu().numpy()
    return {n: row > 0 if n == "correct" else row for n, row in zip(names, rows, strict=True)}


def _whole_numbers(values: Any, name: str) -> Int64[np.ndarray, " values"]:
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    array = np.asarray(values if isinstance(values, np.ndarray | range) else list(values))
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise ValueError(
            f"{name}: expected a row of whole numbers; got {array.dtype} of shape {array.shape}"
        )
    return array.astype(np.int64)


def _check_labels(labels: np.ndarray) -> None:
    if labels.min(initial=0) < 0:
        raise ValueError(f"labels: expected classes from 0; got {labels.min()}")


def _matrix(values: Any, name: str) -> Float[Tensor, "batch width"]:
    tensor = torch.as_tensor(values).detach()
    if tensor.ndim != 2 or not tensor.shape[1] or not tensor.is_floating_point():  # noqa: PLR2004
        raise ValueError(
            f"{name}: expected floats of shape (batch, width); got {tensor.dtype} of shape "
            f"{tuple(tensor.shape)}"
        )
    return tensor


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
