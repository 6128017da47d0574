"""Imports follow the order of the folders, and the check of this can fail."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT = Path(sys.executable).parent / "lint-imports"


def check(tree):
    """Exit code and output of the import linter in a tree."""
    done = subprocess.run(
        [LINT, "--no-cache"], cwd=tree, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


@pytest.fixture
def tree(tmp_path):
    for package in ("hardness", "sweep"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_imports_follow_the_order_of_the_folders():
    code, out = check(ROOT)
    assert code == 0, out


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("hardness/data/parts.py", "import hardness.comparison.stability"),
        ("sweep/store/ownership.py", "import sweep.report.style"),
        ("hardness/metrics/loss.py", "import mlflow"),
        ("hardness/comparison/estimate.py", "import sweep.errors"),
        ("hardness/dynamics/record.py", "import hardness.dynamics.folder"),
    ],
)
def test_an_import_against_the_order_is_found(tree, file, line):
    path = tree / file
    path.write_text(f"{path.read_text()}\n{line}\n")
    code, out = check(tree)
    assert code == 1
    assert "BROKEN" in out
