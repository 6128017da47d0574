"""The recorder as a Lightning callback; needs ``lightning`` or ``pytorch_lightning``."""

import importlib
from importlib.util import find_spec
from typing import Any

from hardness.dynamics.recorder import Recorder

_Callback: Any = importlib.import_module(
    "lightning.pytorch" if find_spec("lightning") else "pytorch_lightning"
).Callback


class HardnessCallback(_Callback):  # type: ignore[misc]  # the class of the installed package
    """Records the ``sample_ids`` and ``logits`` that ``training_step`` returns with its ``loss``.

    Args:
        recorder: Recorder of this run; it is closed when training ends, but not when it fails.

    Example:
        >>> HardnessCallback(Recorder("runs/seed-0", labels=[0, 1])).recorder.epoch
        0
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def on_train_batch_end(
        self, trainer: Any, _module: Any, outputs: Any, _batch: Any, _batch_idx: int
    ) -> None:
        """Record the batch."""
        self.recorder.record(trainer.current_epoch, outputs["sample_ids"], outputs["logits"])

    def on_train_epoch_end(self, *_: Any) -> None:
        """End the epoch."""
        self.recorder.end_epoch()

    def on_train_end(self, *_: Any) -> None:
        """Close the recorder, which finishes the run."""
        self.recorder.close()
