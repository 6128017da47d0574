"""The measuring half stands alone: it loads neither Ray nor MLflow."""

import subprocess
import sys
from pathlib import Path

import pytest

import hardness

ORCHESTRATION = {"ray", "mlflow"}
# Imports a package with every module below it, then prints those and which of the two came along.
PROBE = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
found = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in found:
    importlib.import_module(name)
print(*found)
print(*sorted({"ray", "mlflow"} & set(sys.modules)))
"""


def imported(package, folder):
    """Modules below a package, and which of Ray and MLflow a fresh process loads with them."""
    result = subprocess.run(
        [sys.executable, "-c", PROBE, package],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    modules, loaded = result.stdout.splitlines()
    return set(modules.split()), set(loaded.split())


def test_no_module_of_hardness_loads_ray_or_mlflow():
    root = Path(hardness.__file__).parent
    files = (path.relative_to(root.parent).with_suffix("") for path in root.rglob("*.py"))
    every = {".".join(path.parts).removesuffix(".__init__") for path in files}
    modules, loaded = imported("hardness", root.parent)
    assert modules == every - {"hardness"}
    assert not loaded


@pytest.mark.parametrize("name", sorted(ORCHESTRATION))
def test_the_probe_sees_an_import_two_packages_down(tmp_path, name):
    inner = tmp_path / "measuring" / "inner"
    inner.mkdir(parents=True)
    (inner.parent / "__init__.py").touch()
    (inner / "__init__.py").touch()
    (inner / "leak.py").write_text(f"def late():\n    pass\n\n\nimport {name}\n")
    modules, loaded = imported("measuring", tmp_path)
    assert "measuring.inner.leak" in modules
    assert name in loaded


def test_scoring_recorded_histories_loads_nothing_large():
    # Each worker of an aggregation loads what this loads, anew.
    probe = "import sys, hardness.scoring; print(*{'torch', 'sklearn', 'scipy'} & {*sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []


HEAVY = {"torch", "torchvision", "optuna", "matplotlib"}


def heavy(*modules):
    """Which of these packages a fresh process loads with these modules."""
    probe = f"import sys, {', '.join(modules)}; print(*{HEAVY} & {{*sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    return {*result.stdout.split()}


def test_an_aggregation_loads_torch_and_figures_only_once_it_needs_them():
    # Torch alone would double what the driver takes before the first score is there.
    assert (
        heavy(
            "sweep.execution.fanout",
            "sweep.store.recorded_runs",
            "sweep.aggregation.aggregate",
            "sweep.report.terminal",
        )
        == set()
    )


def test_a_driver_loads_images_and_no_networks():
    # torchvision's networks load torch's compiler, which takes as long as torch itself.
    assert heavy("sweep.execution.driver") == {"torch"}


def test_the_look_for_heavy_packages_sees_each():
    assert (
        heavy("hardness.models.networks", "sweep.planning.bayes", "sweep.report.figures") == HEAVY
    )
