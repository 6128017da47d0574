"""Names of the signals that are computed from logits, in a file that does not import torch."""

# In the order of `logits.from_logits`.
LOGIT_SIGNALS = (
    "loss",
    "p_label",
    "label_margin",
    "correct",
    "entropy",
    "el2n",
    "max_softmax",
    "margin",
    "energy",
)
# Signals that supervised training also records in the training step, on augmented images.
TRAIN_PHASE = ("p_label", "label_margin", "correct")
