"""Check that this tree gives the same numbers as another revision.

``python -m tests.same_numbers REVISION`` trains a small sweep of every regimen with the other
revision. Then this tree runs the same sweep: it must find every run done, and make the same tables,
byte for byte. At last this tree trains the sweep from the start, and the tables must be the same
again. If tables differ, their names are printed and the exit code is 1.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]

EXPERIMENT = """
name: same
dataset: {name: digits, subset: 240}
validation: {split: 0.25}
plant: {noise_symmetric: {rate: 0.1}}
model: {name: small_cnn, width: 4}
regimens:
  supervised:
    train: {max_epochs: 4, batch_size: 32}
    parameters: {train.lr: {values: [0.05, 0.1]}}
  second_split:
    train: {max_epochs: 3, batch_size: 32}
  cross_fit:
    folds: 2
    train: {max_epochs: 3, batch_size: 32}
  contrastive:
    objective: barlow_twins
    train: {max_epochs: 2, batch_size: 64}
  autoencoder:
    train: {max_epochs: 2, batch_size: 64}
seeds: 4
metrics: all
"""


def main() -> None:
    """Compare this tree with another revision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("revision", help="commit, branch or tag to compare this tree with")
    parser.add_argument(
        "--apart", default="", help="columns that this tree may lack, separated by commas"
    )
    parser.add_argument(
        "--emptied",
        default="",
        help="columns of CSV tables whose cells this tree may leave empty, separated by commas",
    )
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="same-"))
    (folder / "same.yaml").write_text(EXPERIMENT)
    before = folder / "before"
    checkout = ["git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", str(before)]
    subprocess.run([*checkout, given.revision], check=True)
    try:
        _sweep(before, folder / "old", folder)
        old = _tables(folder / "old")
        shutil.rmtree(folder / "old" / "sweeps" / "same" / "scores", ignore_errors=True)
        said = _sweep(ROOT, folder / "old", folder)
        if "24 of 24 cells are done already" not in said:
            sys.exit(f"expected every run to be found as done; got\n{said}")
        apart, emptied = {*given.apart.split(",")}, {*given.emptied.split(",")}
        found_again = _differences(old, _tables(folder / "old"), apart, emptied)
        _sweep(ROOT, folder / "new", folder)
        trained_again = _differences(old, _tables(folder / "new"), apart, emptied)
    finally:
        remove = ["git", "-C", str(ROOT), "worktree", "remove", "--force", str(before)]
        subprocess.run(remove, check=True)
    for kind, found in (("runs found as done", found_again), ("runs trained", trained_again)):
        print(f"{kind}: {len(old) - len(found)} of {len(old)} tables equal", *found, sep="\n  ")
    sys.exit(1 if found_again or trained_again else 0)


def _sweep(tree: Path, workdir: Path, folder: Path) -> str:
    workdir.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(tree), "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    command = [sys.executable, "-m", "sweep", "run", str(folder / "same.yaml")]
    done = subprocess.run(
        command, cwd=workdir, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{tree}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr


def _tables(workdir: Path) -> dict[str, Path]:
    """Copies of a sweep's tables by name; another call makes further copies."""
    kept = Path(tempfile.mkdtemp(dir=workdir))
    found = [
        path
        for path in (workdir / "sweeps" / "same").rglob("*")
        if path.suffix in {".csv", ".parquet"} and "checkpoints" not in path.parts
    ]
    return {
        path.relative_to(workdir / "sweeps" / "same").as_posix(): Path(
            shutil.copy2(path, kept / f"{number}{path.suffix}")
        )
        for number, path in enumerate(sorted(found))
    }


def _differences(
    old: dict[str, Path], new: dict[str, Path], apart: set[str], emptied: set[str]
) -> list[str]:
    """One line per table that differs. ``apart`` may be missing, cells of ``emptied`` empty."""
    found = [f"{name}: missing" for name in sorted({*old} - {*new})]
    found += [f"{name}: new" for name in sorted({*new} - {*old})]
    for name in sorted({*old} & {*new}):
        if old[name].read_bytes() == new[name].read_bytes():
            continue
        left, right = (_read(one[name]) for one in (old, new))
        for column in emptied & {*left} & {*right} if len(left) == len(right) else ():
            left.loc[right[column] == "", column] = ""
        if not {*right} <= {*left} or not {*left} - {*right} <= apart:
            found.append(f"{name}: columns {sorted({*left} ^ {*right})}")
        elif not left[[*right]].equals(right) or not ((apart | emptied) & {*left}):
            found.append(f"{name}: values, or bytes of equal values")
    return found


def _read(path: Path) -> pd.DataFrame:
    # As text, so that every digit counts.
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    return pd.read_parquet(path)


if __name__ == "__main__":
    main()
