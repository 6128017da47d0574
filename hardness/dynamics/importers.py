"""Import of dynamics and scores that other programs wrote.

All input is text or parquet; nothing is unpickled. Errors are one line that names the file.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hardness.dynamics.folder import (
    Manifest,
    samples_table,
    write_epoch,
    write_manifest,
    write_samples,
    write_spec,
)
from hardness.dynamics.record import UNKNOWN, EpochRecord
from hardness.files import UNREADABLE, fingerprint, one_line

SAMPLE_ID = "sample_id"
AUM_VALUES, AUM_RECORDS = "aum_values.csv", "full_aum_records.csv"
_MOST_EMPTY = 100
_EPOCH = re.compile(r"dynamics_epoch_(0|[1-9][0-9]{0,5})\.jsonl")
_RECORD_COLUMNS = (
    "sample_id", "num_measurements", "target_logit", "target_val", "other_logit", "other_val",
    "margin",
)  # fmt: skip


def is_cartography(path: Path) -> bool:
    """Whether a folder holds one run's training dynamics as cartography writes them."""
    return path.is_dir() and any(_EPOCH.fullmatch(p.name) for p in path.iterdir())


def is_aum(path: Path) -> bool:
    """Whether a file was saved by AUM's calculator for one run."""
    return path.is_file() and path.name in (AUM_VALUES, AUM_RECORDS)


def import_cartography(source: Path, folder: Path, *, seed: int = 0) -> None:
    """Turn cartography's training dynamics of one run into a run's folder.

    Each line of ``dynamics_epoch_{k}.jsonl`` is a JSON object for one sample, with ``guid``,
    ``logits_epoch_{k}`` and ``gold``, in the order of that epoch's batches. Cartography logs them
    in the training step, so they belong to phase ``train``. If not all guids are whole numbers,
    samples are numbered by the order of guids as text, which are kept in a column ``guid``.

    Args:
        source: Folder of the files, which cartography calls ``training_dynamics``.
        folder: New folder for the run.
        seed: Seed of the run, which the files do not contain.

    Raises:
        ValueError: In one line, if an epoch is missing or a file has another format.

    References:
        allenai/cartography: ``log_training_dynamics`` in cartography/selection/selection_utils.py,
        and sample/training_dynamics. Unlike its reader, accepts samples missing from some epoch.
    """
    from hardness.dynamics.recorder import Recorder  # noqa: PLC0415 - imports torch, which scores do not need

    numbers = sorted(int(m[1]) for p in source.iterdir() if (m := _EPOCH.fullmatch(p.name)))
    if numbers != [*range(len(numbers))] or not numbers:
        raise ValueError(
            f"{source}: expected dynamics_epoch_0.jsonl and so on without a gap; got epochs "
            f"{', '.join(map(str, numbers)) or 'none'}"
        )
    epochs = [_cartography_epoch(source / f"dynamics_epoch_{k}.jsonl", k) for k in numbers]
    guids = list(dict.fromkeys(guid for rows in epochs for guid in rows))
    ids, columns = _numbered(guids)
    with Recorder(
        folder, sample_ids=list(ids.values()), seed=seed, configuration="cartography",
        columns=columns,
    ) as recorder:  # fmt: skip
        for epoch, rows in enumerate(epochs):
            golds, logits = zip(*rows.values(), strict=True)
            try:
                here = np.array(logits, dtype=np.float64)
                recorder.record(epoch, [ids[guid] for guid in rows], here, labels=golds)
                recorder.end_epoch()
            except (ValueError, ArithmeticError) as error:
                name = f"dynamics_epoch_{epoch}.jsonl"
                raise ValueError(
                    f"{source / name}: expected labels and logits of a classifier; got: {error}"
                ) from error


def import_aum(source: Path, folder: Path, *, seed: int = 0) -> None:
    """Turn a file that AUM's calculator saved for one run into a run's folder.

    ``full_aum_records.csv`` has a row for each presentation of a sample. The k-th presentation goes
    into epoch k - 1, with its margin and whether the label had the largest logit.
    ``aum_values.csv`` has only the mean margin. It becomes the margin of a single epoch, so that
    ``aum.train`` returns it; labels are unknown.

    Args:
        source: One of those files.
        folder: New folder for the run.
        seed: Seed of the run, which the file does not contain.

    Raises:
        ValueError: In one line, if the file has another format.

    References:
        asappresearch/aum: ``AUMCalculator.finalize`` in aum/aum.py. Its first versions wrote the
        label to ``target_val`` and its logit to ``target_logit``; released versions swap the two.
        The column of whole numbers is taken as the label.
    """
    import torch  # noqa: PLC0415 - scores do not need it

    from hardness.dynamics.provenance import circumstances  # noqa: PLC0415
    from hardness.dynamics.recorder import described  # noqa: PLC0415

    history = _aum_values(source) if source.name == AUM_VALUES else _aum_records(source)
    order = np.argsort([*history.ids.values()])
    samples = samples_table(
        sample_ids=sorted(history.ids.values()),
        labels=history.labels.tolist(),
        columns=None if history.columns is None else history.columns.iloc[order],
    )
    run = described({"configuration": "aum"}, regimen="supervised", seed=seed)
    content = {"run": run, "classes": [str(c) for c in range(history.classes)]}
    names = [write_spec(folder, {**content, **circumstances(torch.device("cpu"))})]
    names.append(write_samples(folder, samples))
    for epoch, signals in enumerate(history.epochs):
        names += write_epoch(folder, EpochRecord(epoch=epoch, signals=signals, summary={}))
    manifest = Manifest(
        epochs=len(history.epochs),
        rows=len(samples),
        signals=tuple(history.epochs[0]),
        files={name: fingerprint(folder / name) for name in names},
    )
    write_manifest(folder, manifest)


def read_scores(path: Path) -> pd.DataFrame:
    """Read scores from a csv or parquet file with a column ``sample_id`` and one per score.

    Returns:
        Scores in float64, indexed by ``sample_id``.

    Raises:
        ValueError: In one line, if the file is not such a table.
    """
    table = _table(path, (SAMPLE_ID,), others=True)
    ids = table[SAMPLE_ID]
    if not pd.api.types.is_integer_dtype(ids) or ids.isna().any():
        raise ValueError(f"{path}: expected whole numbers in sample_id; got {_content(ids)}")
    if ids.duplicated().any():
        again = ids[ids.duplicated()].iloc[0]
        raise ValueError(f"{path}: expected each sample_id once; got {again} again")
    scores = table.drop(columns=SAMPLE_ID)
    if not len(scores.columns):
        raise ValueError(f"{path}: expected columns of scores beside sample_id; got none")
    columns = {str(name): _floats(scores, name, path) for name in scores}
    if empty := [name for name, values in columns.items() if np.isnan(values).all()]:
        raise ValueError(f"{path}: expected numbers in column {empty[0]!r}; got an empty column")
    return pd.DataFrame(columns, index=pd.Index(ids, name=SAMPLE_ID))


def _cartography_epoch(path: Path, epoch: int) -> dict[Any, tuple[int, list[Any]]]:
    """Label and logits by guid; if a guid repeats, its last line counts."""
    found: dict[Any, tuple[int, list[Any]]] = {}
    width = 0
    for number, content in _lines(path):
        try:
            guid, logits = content["guid"], content[f"logits_epoch_{epoch}"]
            gold = content["gold"]
            right = (
                type(guid) in (int, str)
                and type(gold) is int
                and type(logits) is list
                and len(logits) == (width or len(logits)) > 0
                and all(type(z) in (int, float) for z in logits)
            )
        except (KeyError, TypeError):
            right = False
        if not right:
            raise ValueError(
                f"{path}: line {number}: expected guid, gold (a whole number) and logits_epoch_"
                f"{epoch} ({width or 'some'} numbers); got {json.dumps(content)[:80]}"
            )
        width = len(logits)
        found[guid] = (gold, logits)
    if not found:
        raise ValueError(f"{path}: expected a line for each sample; got none")
    return found


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, json.loads(line)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected lines of JSON; got {error}") from error


def _numbered(guids: Sequence[Any]) -> tuple[dict[Any, int], pd.DataFrame | None]:
    """Sample ids by guid: the guid itself, or its place among all guids sorted as text.

    Places do not depend on the order of the file, so runs with other seeds get the same ids.
    """
    if all(isinstance(g, int) and abs(g) < 2**63 for g in guids):
        return {g: int(g) for g in guids}, None
    distinct = list(dict.fromkeys(guids))
    places = {text: place for place, text in enumerate(sorted({str(g) for g in distinct}))}
    if len(places) != len(distinct):
        raise ValueError("expected guids that differ as text; got two with the same text")
    return {g: places[str(g)] for g in distinct}, pd.DataFrame({"guid": list(map(str, distinct))})


class _History(NamedTuple):
    """Content of an AUM file: sample ids by guid, column of guids; the rest by ascending id."""

    ids: dict[Any, int]
    columns: pd.DataFrame | None
    labels: np.ndarray
    epochs: list[dict[str, np.ndarray]]
    classes: int


def _of_samples(source: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read an AUM file in which every row must name its sample."""
    table = _table(source, columns)
    if table[SAMPLE_ID].isna().any():
        raise ValueError(f"{source}: expected a sample_id in every row; got a row without one")
    return table


def _aum_values(source: Path) -> _History:
    table = _of_samples(source, (SAMPLE_ID, "aum"))
    ids, columns = _numbered(table[SAMPLE_ID].tolist())
    if len(ids) != len(table):
        raise ValueError(f"{source}: expected each sample_id once; got one twice")
    values = _floats(table, "aum", source)[np.argsort([*ids.values()])]
    labels = np.full(len(ids), UNKNOWN)
    return _History(ids, columns, labels, [{"label_margin.train": values}], 0)


def _aum_records(source: Path) -> _History:
    table = _of_samples(source, _RECORD_COLUMNS)
    ids, columns = _numbered(list(dict.fromkeys(table[SAMPLE_ID].tolist())))
    order = np.sort([*ids.values()])
    rows = np.searchsorted(order, [ids[guid] for guid in table[SAMPLE_ID].tolist()])
    of = {name: _floats(table, name, source) for name in _RECORD_COLUMNS[1:]}
    released = (of["target_logit"] % 1 == 0).all()
    given, runner_up = (
        (of["target_logit"], of["other_logit"]) if released else (of["target_val"], of["other_val"])
    )
    labels = np.zeros(len(order))
    labels[rows] = given
    times, margin = of["num_measurements"], of["margin"]
    if not (
        (labels[rows] == given).all()
        and (given % 1 == 0).all()
        and given.min() >= 0
        and (times % 1 == 0).all()
        and 1 <= times.min() <= times.max() <= len(times)
    ):
        raise ValueError(
            f"{source}: expected one class per sample, from 0, in target_logit and whole numbers "
            "from 1 in num_measurements; got other values"
        )
    # An epoch with few samples would take as much memory as one with all samples.
    if times.max() * len(order) > _MOST_EMPTY * len(times):
        raise ValueError(
            f"{source}: expected about equally many presentations of each sample; got {len(times)} "
            f"presentations of {len(order)} samples with num_measurements up to {times.max():g}"
        )
    # Among equal logits the lowest class counts.
    won = (margin > 0) | ((margin == 0) & (given < runner_up))
    epochs = []
    for time in range(1, int(times.max()) + 1):
        here = times == time
        margins, correct, seen = np.full(len(order), np.nan), *np.zeros((2, len(order)), dtype=bool)
        margins[rows[here]], correct[rows[here]], seen[rows[here]] = margin[here], won[here], True
        epochs.append({"label_margin.train": margins, "correct.train": correct, "seen.train": seen})
    classes = int(max(given.max(), runner_up.max())) + 1
    return _History(ids, columns, labels.astype(np.int64), epochs, classes)


def _table(path: Path, columns: Sequence[str], *, others: bool = False) -> pd.DataFrame:
    """Read these columns of a csv or parquet file; with ``others``, also all other columns."""
    ending = path.suffix.lower()
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".parquet": pd.read_parquet,
        ".csv": pd.read_csv,
    }
    reader = readers.get(ending)
    got = ""
    if path.is_dir():
        got = "a folder"
    elif not path.exists():
        got = "no such file"
    elif reader is None:
        got = f"the ending {ending!r}"
    if got or reader is None:
        raise ValueError(f"{path}: expected a readable .csv or .parquet file; got {got}")
    try:
        table = reader(path)
    except UNREADABLE as error:
        got = "bytes that are not UTF-8" if isinstance(error, UnicodeError) else one_line(error)
        raise ValueError(f"{path}: expected a readable .csv or .parquet file; got {got}") from error
    lacking = [name for name in columns if name not in table]
    if lacking or not len(table):
        got = ", ".join(map(str, [*table][:20])) if lacking else "no rows"
        raise ValueError(f"{path}: expected the columns {', '.join(columns)}; got {got}")
    return table if others else table[[*columns]]


def _floats(table: pd.DataFrame, name: Any, path: Path) -> np.ndarray:
    if not pd.api.types.is_numeric_dtype(table[name]):
        raise ValueError(
            f"{path}: expected numbers in column {name!r}; got {_content(table[name])}"
        )
    return table[name].to_numpy(dtype=np.float64, na_value=np.nan)


def _content(column: pd.Series) -> str:
    """In words, what a column holds instead of whole numbers."""
    if not pd.api.types.is_numeric_dtype(column):
        first = next((str(one) for one in column if isinstance(one, str)), "")
        return f"text such as {first[:40]!r}" if first else str(column.dtype)
    return "fractions or empty cells"
