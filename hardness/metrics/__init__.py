"""Per-sample hardness metrics: pure functions from recorded signals to one raw score a sample."""

from hardness.metrics.cartography import (
    cartography_confidence,
    cartography_correctness,
    cartography_variability,
    data_iq_aleatoric,
)
from hardness.metrics.disagreement import (
    ensemble_entropy,
    ensemble_mi,
    mc_dropout_bald,
    mc_dropout_entropy,
)
from hardness.metrics.discrepancy import feature_norm_discrepancy, lgn_discrepancy, msd_discrepancy
from hardness.metrics.displacement import (
    feature_norm_mean,
    feature_norm_std,
    msd_cosine,
    msd_mean,
    msd_std,
)
from hardness.metrics.distribution import gradnorm, odin
from hardness.metrics.error_norm import el2n
from hardness.metrics.forgetting import (
    censored,
    forgetting_events,
    fslt,
    learned_first_epoch,
    never_learned,
)
from hardness.metrics.gradients import grand, grand_last_layer, vog, vog_class_z, vog_prob
from hardness.metrics.holdout import irreducible_loss, rho_loss
from hardness.metrics.label_margin import aum, aum_pre_decay
from hardness.metrics.label_quality import (
    label_quality_normalized_margin,
    label_quality_self_confidence,
)
from hardness.metrics.loss import mean_loss
from hardness.metrics.loss_gradient import lgn_mean, lgn_std
from hardness.metrics.neighborhood import (
    has_duplicate,
    knn_distance,
    knn_label_disagreement,
    lid_mle,
    lid_mle_harmonic,
    lid_mle_pixels,
)
from hardness.metrics.outliers import isolation_forest, lof
from hardness.metrics.pixels import (
    image_compressed_size,
    image_entropy,
    image_l2_norm,
    total_variation,
)
from hardness.metrics.prototypes import (
    prototypicality,
    prototypicality_of_random_states,
    prototypicality_supervised,
)
from hardness.metrics.registry import METRICS, Metric, labels_used, metric
from hardness.metrics.second_split import (
    learned_at_switch,
    seed_changes,
    seed_fsrt,
    seed_ssft,
    ssft,
)
from hardness.metrics.self_supervised import (
    reconstruction_error,
    ssl_loss_barlow,
    ssl_loss_ntxent,
    ssl_param_grad_norm,
    ssl_perturbation_gain,
)
from hardness.metrics.softmax import energy, margin, max_softmax, predictive_entropy

__all__ = [
    "METRICS",
    "Metric",
    "aum",
    "aum_pre_decay",
    "cartography_confidence",
    "cartography_correctness",
    "cartography_variability",
    "censored",
    "data_iq_aleatoric",
    "el2n",
    "energy",
    "ensemble_entropy",
    "ensemble_mi",
    "feature_norm_discrepancy",
    "feature_norm_mean",
    "feature_norm_std",
    "forgetting_events",
    "fslt",
    "gradnorm",
    "grand",
    "grand_last_layer",
    "has_duplicate",
    "image_compressed_size",
    "image_entropy",
    "image_l2_norm",
    "irreducible_loss",
    "isolation_forest",
    "knn_distance",
    "knn_label_disagreement",
    "label_quality_normalized_margin",
    "label_quality_self_confidence",
    "labels_used",
    "learned_at_switch",
    "learned_first_epoch",
    "lgn_discrepancy",
    "lgn_mean",
    "lgn_std",
    "lid_mle",
    "lid_mle_harmonic",
    "lid_mle_pixels",
    "lof",
    "margin",
    "max_softmax",
    "mc_dropout_bald",
    "mc_dropout_entropy",
    "mean_loss",
    "metric",
    "msd_cosine",
    "msd_discrepancy",
    "msd_mean",
    "msd_std",
    "never_learned",
    "odin",
    "predictive_entropy",
    "prototypicality",
    "prototypicality_of_random_states",
    "prototypicality_supervised",
    "reconstruction_error",
    "rho_loss",
    "seed_changes",
    "seed_fsrt",
    "seed_ssft",
    "ssft",
    "ssl_loss_barlow",
    "ssl_loss_ntxent",
    "ssl_param_grad_norm",
    "ssl_perturbation_gain",
    "total_variation",
    "vog",
    "vog_class_z",
    "vog_prob",
]
