"""README and docs say what is there: metrics, folders, commands, tests, keys, links."""

import re
import shlex
from pathlib import Path

import pytest

import hardness
from hardness.metrics.registry import METRICS
from sweep import cli
from sweep.experiment import check, sections, yaml_file
from sweep.store.recorded_runs import gather

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}
EVERYTHING = "\n".join(TEXTS.values())
PATH = re.compile(r"`((?:hardness|sweep|tests|experiments|docs)/[\w./-]*)`")


def doc(name):
    return TEXTS[f"docs/{name}.md"]


def blocks(text, language):
    """Fenced blocks of one language; "" for those that name none."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [inside for tongue, inside in fenced if tongue == language]


def prose(text):
    """Lines outside fenced blocks and tables."""
    plain = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [line for line in plain.splitlines() if not line.startswith("|")]


def anchors(text):
    """Names of a page's headings, as GitHub makes them."""
    headings = [line.lstrip("# ") for line in prose(text) if line.startswith("#")]
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in kept}


def commands():
    """Every command line of ``sweep`` in a block, a continued one joined, without comments."""
    for text in TEXTS.values():
        for block in blocks(text, ""):
            lines = block.replace("\\\n", " ").splitlines()
            shown = (line.removeprefix("$ ") for line in lines)
            yield from (shlex.split(s, comments=True)[1:] for s in shown if s.startswith("sweep "))


def test_the_readme_is_short():
    assert len(TEXTS["README.md"].splitlines()) <= 200


@pytest.mark.parametrize("page", TEXTS)
def test_no_line_of_prose_is_longer_than_400_characters(page):
    assert [line for line in prose(TEXTS[page]) if len(line) > 400] == []


@pytest.mark.parametrize("page", [*TEXTS, "experiments/RESULTS.md"])
def test_links_and_anchors_lead_somewhere(page):
    text = (ROOT / page).read_text()
    links = re.findall(r"\]\((?!https?:)([^)\s]*)\)", text)
    assert links or page != "README.md"
    for link in links:
        place, _, anchor = link.partition("#")
        target = (ROOT / page).parent / place if place else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def test_every_page_of_the_docs_is_listed_and_linked_from_the_readme():
    names = {page.name for page in PAGES[1:]} - {"README.md"}
    assert len(names) == 15
    assert names == {*re.findall(r"^- \[(.+?)\]\(\1\): .+$", doc("README"), re.MULTILINE)}
    assert names <= {*re.findall(r"\(docs/([^)#]+)", TEXTS["README.md"])}


@pytest.mark.parametrize("name", sorted(cli.cli.commands))
def test_every_command_is_shown(name):
    assert f"sweep {name} " in EVERYTHING


def test_every_command_line_that_is_shown_is_one():
    shown = [*commands()]
    assert {name for name, *_ in shown} == {*cli.cli.commands}
    for name, *arguments in shown:
        # It parses and starts nothing; an unknown option or a missing argument raises.
        cli.cli.commands[name].make_context(name, arguments)


def test_the_metric_table_is_that_of_the_registry():
    from sweep.report.metric_list import readme_metrics

    table = doc("metrics").split("<!-- metrics: begin -->\n")[1]
    table = table.split("\n<!-- metrics: end -->")[0]
    assert table == readme_metrics()
    assert all(f"`{key}`" in table for key in METRICS if "." not in key)


@pytest.mark.parametrize("page", [page for page in TEXTS if blocks(TEXTS[page], "yaml")])
def test_experiment_files_that_are_shown_are_accepted(page, tmp_path):
    whole = blocks(doc("experiment-file"), "yaml")[0]
    plugin = blocks(doc("extending"), "python")[0]
    for name, text in {"mine.yaml": whole, "worst_loss.py": plugin}.items():
        (tmp_path / name).write_text(text)
    for number, text in enumerate(blocks(TEXTS[page], "yaml")):
        # A part of a file stands on a small one, or on the file that it names.
        started = "" if re.search("^base:|^name:", text, re.MULTILINE) else "base: small.yaml\n"
        (tmp_path / "small.yaml").write_text(
            "name: small\ndataset: {name: digits}\nregimens: {supervised: {}}\n"
        )
        (tmp_path / f"{number}.yaml").write_text(started + text)
        content = yaml_file.read(tmp_path / f"{number}.yaml")
        assert check.check(content, text).name


def test_every_key_of_an_experiment_file_is_explained():
    with pytest.raises(sections.ExperimentError) as caught:
        check.check({"no such key": 1}, "")
    keys = {*str(caught.value).partition("known: ")[2].split(", "), "base"}
    table = doc("experiment-file").split("## All keys\n")[1].split("\n## ")[0]
    assert {*re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)} == keys


def test_the_training_loop_runs_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loop, notebook = blocks(doc("recorder"), "python")
    for text in (loop, notebook):
        exec(compile(text, "recorder.md", "exec"), found := {})
    assert len(found["hardest"]) == 20
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["seed-0", "seed-1", "seed-2"]
    runs = gather(tmp_path / "runs", tmp_path / "out")
    assert [(c.run.seed, c.state, c.trace.epochs) for c in runs.cells] == [
        (seed, "done", 8) for seed in range(3)
    ]


def test_every_fault_names_its_test():
    rows = [line for line in doc("faults").splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 10
    assert [row for row in rows if not re.search(r"\| `test_\w+` \|$", row)] == []


def test_every_test_that_is_named_exists():
    named = {*re.findall(r"`(test_\w+(?:\.py)?)`", EVERYTHING)}
    files = [*(ROOT / "tests").rglob("test_*.py")]
    defined = {
        name
        for path in files
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(named) > 10
    assert named <= defined | {path.name for path in files}


def test_every_place_that_is_named_exists():
    named = {*PATH.findall(EVERYTHING)}
    assert len(named) > 20
    assert {place for place in named if not (ROOT / place).exists()} == set()


def test_every_folder_and_file_at_the_top_of_both_packages_is_named():
    named = {place.rstrip("/") for place in PATH.findall(doc("architecture"))}
    there = {
        path.relative_to(ROOT).as_posix()
        for package in ("hardness", "sweep")
        for path in (ROOT / package).iterdir()
        if path.name not in ("__init__.py", "__main__.py", "__pycache__", "py.typed")
    }
    assert there <= named
    assert {"experiments/results.py", "experiments/small"} <= named


def test_what_the_package_is_said_to_offer_is_there():
    section = doc("extending").split("### What `import hardness` offers\n")[1]
    names = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", section, re.MULTILINE)
    offered = [name for row in names for name in re.findall(r"\w+", row)]
    assert len(offered) == 11
    assert [name for name in offered if not hasattr(hardness, name)] == []


@pytest.mark.parametrize("page", TEXTS)
def test_no_blank_was_left(page):
    assert "@@" not in TEXTS[page]
    assert not re.search(r"TODO|FIXME|\?\?\?", TEXTS[page])
