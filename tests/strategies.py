"""Hypothesis strategies for what the package computes with: the one home of generated arrays."""

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

sizes = st.integers(1, 7)
# Of what is dear: the same examples each time.
few = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def numbers(low=-20.0, high=20.0):
    """Finite float32 numbers, often whole, so that ties and duplicates happen."""
    whole = st.integers(int(np.ceil(low)), int(np.floor(high))).map(float)
    return whole | st.floats(low, high, width=32)


@st.composite
def histories(draw, dtype=np.float32, low=-20.0, high=20.0):
    """``(values[E, N], seen[E, N])``, with samples that are seen rarely or never."""
    shape = draw(sizes), draw(sizes)
    elements = st.booleans() if dtype is bool else numbers(low, high)
    values = draw(hnp.arrays(dtype, shape, elements=elements))
    return values, draw(hnp.arrays(bool, shape))


@st.composite
def logits(draw, min_classes=1):
    """``(logits[N, C], labels[N])``."""
    samples, classes = draw(sizes), draw(st.integers(min_classes, 6))
    values = draw(hnp.arrays(np.float32, (samples, classes), elements=numbers()))
    labels = draw(hnp.arrays(np.int64, samples, elements=st.integers(0, classes - 1)))
    return values, labels


@st.composite
def embeddings(draw, epochs=None, max_samples=12):
    """``emb[N, D]``, or ``emb[E, N, D]`` with a strategy of epochs; duplicates are common."""
    shape = draw(st.integers(1, max_samples)), draw(st.integers(1, 4))
    first = () if epochs is None else (draw(epochs),)
    return draw(hnp.arrays(np.float32, first + shape, elements=numbers(-4.0, 4.0)))


@st.composite
def spoiled(draw, content):
    """Bytes that were ``content``: cut off, flipped, overwritten, grown; or never were."""
    how = draw(st.sampled_from(["cut", "flip", "overwrite", "insert", "drop", "other"]))
    if how == "other":
        return draw(st.binary(max_size=200))
    at = draw(st.integers(0, len(content) - 1))
    if how == "cut":
        return content[:at]
    if how == "drop":
        return content[:at] + content[at + draw(st.integers(1, 64)) :]
    if how == "insert":
        return content[:at] + draw(st.binary(min_size=1, max_size=8)) + content[at:]
    if how == "overwrite":
        new = draw(st.binary(min_size=1, max_size=16) | st.sampled_from([b"\xff" * 8, b"\0" * 8]))
        return content[:at] + new + content[at + len(new) :]
    changed = bytearray(content)
    # Most of what a reader trusts stands at either end.
    ends = st.integers(0, min(300, len(content)) - 1)
    places = st.integers(0, len(content) - 1) | ends | ends.map(lambda i: len(content) - 1 - i)
    for place in draw(st.lists(places, min_size=1, max_size=6)):
        changed[place] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)
