"""What ``import hardness`` offers, and what it does not load for it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from setuptools.config.pyprojecttoml import read_configuration

import hardness

NAMES = [
    "METRICS",
    "Dynamics",
    "Recorder",
    "ScoreSet",
    "__version__",
    "agreement",
    "load_dataset",
    "metric",
    "score_folder",
    "stability",
    "truth_table",
]
HEAVY = ["torch", "ray", "mlflow", "scipy", "sklearn"]


def loaded_by(statement):
    """Which of the heavy packages a fresh process has loaded after a statement."""
    probe = f"import sys; {statement}; print(*{{*sys.modules}} & {{*{HEAVY}}})"
    result = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    return {*result.stdout.split()}


def test_the_public_names_are_these():
    assert sorted(dir(hardness)) == sorted(hardness.__all__) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_there_and_stays_the_same_object(name):
    assert getattr(hardness, name) is getattr(hardness, name)


def test_a_type_checker_sees_the_names_that_load_late():
    tree = ast.parse(Path(hardness.__file__).read_text())
    (seen,) = (
        n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"
    )
    imported = {
        alias.asname or alias.name: f"{line.module}:{alias.name}"
        for line in seen.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }
    assert imported == hardness._PLACES
    assert {*NAMES} == {*imported, "__version__"}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'hardness' has no attribute 'Recoder'"):
        _ = hardness.Recoder  # type: ignore[attr-defined]


def test_importing_hardness_loads_nothing_heavy():
    assert loaded_by("import hardness") == set()


@pytest.mark.parametrize("name", HEAVY)
def test_the_probe_sees_each_heavy_package(name):
    assert name in loaded_by(f"import hardness, {name}")


def test_a_name_loads_what_it_needs_when_it_is_first_used():
    assert "torch" in loaded_by("import hardness; hardness.Recorder")


def test_the_version_is_written_in_one_place():
    project = read_configuration(Path(hardness.__file__).parents[1] / "pyproject.toml")["project"]
    assert project["version"] == hardness.__version__


def test_the_version_is_there_where_the_project_is_only_on_the_path(tmp_path):
    (tmp_path / "hardness").symlink_to(Path(hardness.__file__).parent)
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c",
         "import sys; sys.path.append('.'); import hardness; print(hardness.__version__)"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout.strip() == hardness.__version__
