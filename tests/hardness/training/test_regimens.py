"""What is said of each regimen apart from its training."""

from hardness.metrics.registry import TRAINED_ON
from hardness.training import REGIMENS


def test_what_training_has_seen_of_labels_is_told_of_every_regimen_and_of_no_other():
    assert REGIMENS.keys() == TRAINED_ON.keys()
    without = {name for name, regimen in REGIMENS.items() if not regimen.labels}
    assert without == {"contrastive", "autoencoder"}
