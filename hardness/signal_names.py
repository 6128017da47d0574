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
