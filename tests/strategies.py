"""Hypothesis strategies for what the package computes with: the one home of generated arrays."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

sizes = st.integers(1, 7)


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
    if epochs is not None:
        shape = draw(epochs), *shape
    return draw(hnp.arrays(np.float32, shape, elements=numbers(-4.0, 4.0)))
