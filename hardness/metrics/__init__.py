"""Per-sample hardness metrics: pure functions from recorded signals to one raw score a sample."""

from hardness.metrics.cartography import (
    cartography_confidence,
    cartography_correctness,
    cartography_variability,
)
from hardness.metrics.displacement import (
    feature_norm_mean,
    feature_norm_std,
    msd_mean,
    msd_std,
)
from hardness.metrics.error_norm import el2n
from hardness.metrics.forgetting import (
    censored,
    forgetting_events,
    fslt,
    learned_first_epoch,
    never_learned,
)
from hardness.metrics.holdout import irreducible_loss, rho_loss
from hardness.metrics.label_margin import aum
from hardness.metrics.label_quality import (
    label_quality_normalized_margin,
    label_quality_self_confidence,
)
from hardness.metrics.loss import mean_loss
from hardness.metrics.neighborhood import (
    has_duplicate,
    knn_distance,
    lid_mle,
    lid_mle_harmonic,
)
from hardness.metrics.pixels import (
    image_compressed_size,
    image_entropy,
    image_l2_norm,
    total_variation,
)
from hardness.metrics.prototypes import prototypicality
from hardness.metrics.registry import METRICS, Metric, labels_used, metric
from hardness.metrics.second_split import learned_at_switch, ssft
from hardness.metrics.softmax import energy, margin, max_softmax, predictive_entropy

__all__ = [
    "METRICS",
    "Metric",
    "aum",
    "cartography_confidence",
    "cartography_correctness",
    "cartography_variability",
    "censored",
    "el2n",
    "energy",
    "feature_norm_mean",
    "feature_norm_std",
    "forgetting_events",
    "fslt",
    "has_duplicate",
    "image_compressed_size",
    "image_entropy",
    "image_l2_norm",
    "irreducible_loss",
    "knn_distance",
    "label_quality_normalized_margin",
    "label_quality_self_confidence",
    "labels_used",
    "learned_at_switch",
    "learned_first_epoch",
    "lid_mle",
    "lid_mle_harmonic",
    "margin",
    "max_softmax",
    "mean_loss",
    "metric",
    "msd_mean",
    "msd_std",
    "never_learned",
    "predictive_entropy",
    "prototypicality",
    "rho_loss",
    "ssft",
    "total_variation",
]
