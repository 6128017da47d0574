"""The callback leaves what the recorder's two lines would have left."""

import warnings

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from hardness.dynamics.folder import Dynamics
from hardness.dynamics.recorder import Recorder

SAMPLES, EPOCHS = 24, 3


def test_a_trainer_records_every_epoch(tmp_path):
    with warnings.catch_warnings():
        # Of the package's own imports and of its advice on workers.
        warnings.simplefilter("ignore")
        import pytorch_lightning as pl

        from hardness.dynamics.lightning import HardnessCallback

        images = torch.randn(SAMPLES, 5, generator=torch.Generator().manual_seed(0))
        labels = (images[:, 0] > 0).long()
        kept = []

        class Classifier(pl.LightningModule):
            def __init__(self):
                super().__init__()
                self.head = nn.Linear(5, 2)

            def training_step(self, batch, _):
                sample_ids, x, y = batch
                logits = self.head(x)
                kept.append((sample_ids, logits.detach().clone()))
                loss = nn.functional.cross_entropy(logits, y)
                return {"loss": loss, "logits": logits, "sample_ids": sample_ids}

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=0.1)

        loader = DataLoader(
            TensorDataset(torch.arange(SAMPLES), images, labels), batch_size=7, shuffle=True
        )
        trainer = pl.Trainer(
            max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
            callbacks=[HardnessCallback(Recorder(tmp_path / "run", labels=labels))],
        )  # fmt: skip
        trainer.fit(Classifier(), loader)
    with Recorder(tmp_path / "by hand", labels=labels) as recorder:
        for place, (sample_ids, logits) in enumerate(kept):
            recorder.record(place // 4, sample_ids, logits)
            if place % 4 == 3:
                recorder.end_epoch()
    found, expected = (
        Dynamics(tmp_path / n).signals(["label_margin.train"]) for n in ("run", "by hand")
    )
    assert len(found["label_margin.train"]) == EPOCHS
    np.testing.assert_array_equal(found["label_margin.train"], expected["label_margin.train"])
