"""Names of the signals that follow from logits, apart from their arithmetic, which loads torch."""

# In the order of `signals.from_logits`.
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
# Those of them that supervised training also records of the presentations themselves.
TRAIN_PHASE = ("p_label", "label_margin", "correct")
