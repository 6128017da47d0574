"""The README says what is there: metrics, files, commands, links."""

import re
from pathlib import Path

import pytest

from hardness.metrics import METRICS
from sweep import cli
from sweep.folders import gather

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_its_metric_table_is_that_of_the_registry():
    from sweep.tables import readme_metrics

    table = README.split("<!-- metrics: begin -->\n")[1].split("\n<!-- metrics: end -->")[0]
    assert table == readme_metrics()
    assert all(f"`{key}`" in table for key in METRICS if "." not in key)


def test_every_file_of_its_tree_exists_and_none_is_missing():
    tree = README.split("## Files\n\n```\n")[1].split("```")[0]
    folder, named = "", set()
    for line in tree.splitlines():
        if not line.startswith(" "):
            folder = line.split()[0].rstrip("/")
            continue
        for name in re.findall(r"[a-z_]+(?:\.py|/)", line.split("  ")[1]):
            named.add(f"{folder}/{name.rstrip('/')}")
    assert all((ROOT / name).exists() for name in named)
    there = {
        str(p.relative_to(ROOT))
        for package in ("hardness", "sweep")
        for p in (ROOT / package).iterdir()
        if p.name not in ("__init__.py", "__main__.py", "__pycache__", "py.typed")
    }
    assert there | {"experiments/results.py", "experiments/small"} == named


def test_its_links_lead_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("name", sorted(cli.cli.commands))
def test_every_command_is_shown(name):
    assert f"sweep {name}" in README


def test_its_training_loop_runs_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = README.split("## Your own training loop\n")[1].split("\n## ")[0]
    loop, notebook = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for text in (loop, notebook):
        exec(compile(text, "README.md", "exec"), found := {})
    assert len(found["hardest"]) == 20
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["seed-0", "seed-1", "seed-2"]
    runs = gather(tmp_path / "runs", tmp_path / "out")
    assert [(c.run.seed, c.state, c.trace.epochs) for c in runs.cells] == [
        (seed, "done", 8) for seed in range(3)
    ]


def test_every_test_that_it_names_exists():
    named = {*re.findall(r"`(test_\w+)`", README)}
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(named) > 10
    assert named <= defined


def test_no_blank_was_left():
    assert "@@" not in README
