"""What the tests of all regimens share: digits to train on, schedules, and equality to the bit."""

from hardness.data.datasets import load
from hardness.data.options import DatasetOptions
from hardness.models.options import Augmentation

AUGMENTED = Augmentation(pad=1, brightness=0.2)
SCHEDULES = {
    "sgd and one_cycle": {"optimizer": "sgd", "schedule": "one_cycle", "lr": 0.1},
    "adamw and cosine": {"optimizer": "adamw", "schedule": "cosine", "lr": 0.01},
}


def few_digits():
    """200 to train on, 50 for validation."""
    return load(DatasetOptions(name="digits", subset=250), 0.2)


def with_checkpoints(records):
    """Records of a training, each with the checkpoint that was there when it came."""
    return [(record, record.checkpoint()) for record in records]


def without_seconds(record):
    """The summary, less what no two trainings share."""
    return {k: v for k, v in record.summary.items() if not k.endswith("_seconds")}


def assert_same_arrays(found, expected):
    """The same names, types and bytes."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        assert found[name].tobytes() == values.tobytes(), name


def assert_same_tensors(found, expected):
    """The same names, types and bytes, NaN included."""
    assert_same_arrays(*({k: v.numpy() for k, v in t.items()} for t in (found, expected)))


def assert_same_state(found, expected):
    """The same checkpoint."""
    assert found.epoch == expected.epoch
    assert_same_tensors(found.tensors, expected.tensors)


def assert_same_bits(found, expected):
    """The same training, as ``with_checkpoints`` gives it."""
    assert [record.epoch for record, _ in found] == [record.epoch for record, _ in expected]
    for (record, state), (other, other_state) in zip(found, expected, strict=True):
        assert_same_arrays(record.signals, other.signals)
        assert_same_arrays(record.snapshots, other.snapshots)
        assert without_seconds(record) == without_seconds(other)
        assert_same_state(state, other_state)
