"""One's own metrics in a file: one decorator, loaded once, every failure in one line."""

import re
import sys

import numpy as np
import pytest

from hardness.metrics.registry import METRICS
from sweep.experiment.check import check
from sweep.experiment.plugins import Plugin, PluginError
from sweep.experiment.yaml_file import read

WORST = """
from hardness.metrics import metric


@metric(
    family="supervised", sign=1, sign_origin="hypothesis", labels_used="own",
    summary="largest loss of any epoch", paper="none",
)
def worst_loss_of_a_plugin(loss):
    return loss.astype("float64").max(axis=0)
"""
KEY = "worst_loss_of_a_plugin"


@pytest.fixture
def plugin(tmp_path):
    """Write a plugin's text; gives what was read of it."""
    metrics, modules = {*METRICS}, {*sys.modules}

    def written(text, name="mine.py"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return Plugin.read(tmp_path / name, "digits.yaml")

    yield written
    for key in {*METRICS} - metrics:
        del METRICS[key]
    for name in {m for m in sys.modules if m.startswith("sweep_plugin_")} - modules:
        del sys.modules[name]


def failure(plugin):
    with pytest.raises(PluginError) as caught:
        plugin.load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_decorator_makes_a_metric(plugin):
    plugin(WORST).load()
    metric = METRICS[KEY]
    assert metric.signals == ("loss",)
    scores = metric.score({"loss": np.array([[1, 5], [3, 2]], np.float32)})
    assert scores.tolist() == [3.0, 5.0]


def test_an_experiment_may_ask_for_a_metric_of_its_plugin(plugin, tmp_path):
    plugin(WORST)
    path = tmp_path / "digits.yaml"
    path.write_text(
        f"name: a\ndataset: {{name: digits}}\nregimens: {{supervised: }}\n"
        f"plugins: [mine.py]\nmetrics: [{KEY}]\n"
    )
    spec = check(read(path), "digits.yaml")
    assert spec.metrics == (KEY,)
    assert [p.text for p in spec.plugins] == [WORST]


def test_loading_twice_runs_the_file_once(plugin):
    mine = plugin("import sys\nsys.loads_of_a_plugin = getattr(sys, 'loads_of_a_plugin', 0) + 1\n")
    mine.load()
    mine.load()
    Plugin(path=mine.path, text=mine.text).load()
    assert vars(sys).pop("loads_of_a_plugin") == 1


def test_an_edited_plugin_replaces_its_metric(plugin):
    plugin(WORST).load()
    edited = plugin(WORST.replace("max(axis=0)", "min(axis=0)"))
    edited.load()
    scores = METRICS[KEY].score({"loss": np.array([[1, 5], [3, 2]], np.float32)})
    assert scores.tolist() == [1.0, 2.0]


def test_the_digest_is_that_of_the_text_wherever_it_lies(plugin):
    first, copy = plugin(WORST), plugin(WORST, "copy.py")
    assert first.digest == copy.digest
    assert first.digest != plugin(WORST + "\n").digest


def test_a_plugin_that_was_mended_loads(plugin):
    assert "NameError" in failure(plugin(WORST + "nonsense\n"))
    plugin(WORST).load()
    assert KEY in METRICS


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("x = 1\ny = 1 / 0\n", "ZeroDivisionError: division by zero (line 2)"),
        ("def f():\n    return g()\n\nf()\n", "NameError: name 'g' is not defined (line 2)"),
        (
            "import no_such_module\n",
            "ModuleNotFoundError: No module named 'no_such_module' (line 1)",
        ),
        ("raise ValueError('two\\nlines')\n", "ValueError: two lines (line 1)"),
        ("raise SystemExit(3)\n", "SystemExit: 3 (line 1)"),
        ("x = (\n", "SyntaxError: '(' was never closed (mine.py, line 1)"),
        ("x = 1\n  y = 2\n", "IndentationError: unexpected indent (mine.py, line 2)"),
        ("print('loading')\nprint(1 + '')\n", "TypeError: unsupported operand type(s) for +: "),
        (WORST.replace(KEY, "aum"), "ValueError: expected a new key; got 'aum', which "),
        (
            WORST.replace("(loss)", "(lozz)").replace('paper="none"', 'signals=["loss"], paper=""'),
            (
                "ValueError: worst_loss_of_a_plugin: expected signals among its parameters lozz; "
                "got loss"
            ),
        ),
    ],
)
def test_a_plugin_that_does_not_load_is_told_in_one_line(plugin, tmp_path, text, got):
    line = failure(plugin(text))
    assert line.startswith(f"{tmp_path / 'mine.py'}: expected a plugin that loads; got {got}")


def test_an_interrupted_plugin_is_not_taken_for_loaded(plugin):
    mine = plugin("raise KeyboardInterrupt\n")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            mine.load()


def test_null_bytes_are_told_in_one_line(plugin):
    assert "source code string cannot contain null bytes" in failure(plugin("x = '\0'\n"))


@pytest.mark.parametrize(
    ("name", "why"), [("none.py", "No such file or directory"), ("", "Is a directory")]
)
def test_a_plugin_that_cannot_be_read_is_told_in_one_line(tmp_path, name, why):
    said = "digits.yaml: plugins: expected a readable Python file; got "
    with pytest.raises(
        PluginError, match=f"^{said}{re.escape(repr(str(tmp_path / name)))}: {why}$"
    ):
        Plugin.read(tmp_path / name, "digits.yaml: plugins")


def test_a_plugin_that_is_no_text_is_told_in_one_line(plugin):
    with pytest.raises(PluginError, match=r"mine\.py': not text$"):
        plugin(b"\xff\xfe\x00")
