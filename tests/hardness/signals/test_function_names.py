"""Names of the functions that compute signals: never those of the metrics, which read signals."""

import importlib
import inspect

import pytest

import hardness.metrics

MODULES = ["logits", "embeddings", "ensembles", "gradients", "views", "neighbors"]


def public_functions(module):
    loaded = importlib.import_module(f"hardness.{module}")
    functions = inspect.getmembers(loaded, inspect.isfunction)
    return {n for n, f in functions if f.__module__ == loaded.__name__ and not n.startswith("_")}


@pytest.mark.parametrize("module", MODULES)
def test_no_function_that_computes_a_signal_is_named_like_a_metric(module):
    assert public_functions(f"signals.{module}")
    assert not public_functions(f"signals.{module}") & {*dir(hardness.metrics)}


def test_the_look_for_functions_sees_those_of_a_module():
    assert "el2n_from_logits" in public_functions("signals.logits")
    assert "el2n" in public_functions("metrics.error_norm")
