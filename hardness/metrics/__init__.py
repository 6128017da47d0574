"""Per-sample hardness metrics: pure functions from recorded signals to one raw score per sample."""

from hardness.metrics.cartography import cartography_confidence as cartography_confidence
from hardness.metrics.cartography import cartography_correctness as cartography_correctness
from hardness.metrics.cartography import cartography_variability as cartography_variability
from hardness.metrics.cartography import data_iq_aleatoric as data_iq_aleatoric
from hardness.metrics.disagreement import ensemble_entropy as ensemble_entropy
from hardness.metrics.disagreement import ensemble_mi as ensemble_mi
from hardness.metrics.disagreement import mc_dropout_bald as mc_dropout_bald
from hardness.metrics.disagreement import mc_dropout_entropy as mc_dropout_entropy
from hardness.metrics.discrepancy import feature_norm_discrepancy as feature_norm_discrepancy
from hardness.metrics.discrepancy import lgn_discrepancy as lgn_discrepancy
from hardness.metrics.discrepancy import msd_discrepancy as msd_discrepancy
from hardness.metrics.displacement import feature_norm_mean as feature_norm_mean
from hardness.metrics.displacement import feature_norm_std as feature_norm_std
from hardness.metrics.displacement import msd_cosine as msd_cosine
from hardness.metrics.displacement import msd_mean as msd_mean
from hardness.metrics.displacement import msd_std as msd_std
from hardness.metrics.distribution import gradnorm as gradnorm
from hardness.metrics.distribution import odin as odin
from hardness.metrics.error_norm import el2n as el2n
from hardness.metrics.forgetting import censored as censored
from hardness.metrics.forgetting import forgetting_events as forgetting_events
from hardness.metrics.forgetting import fslt as fslt
from hardness.metrics.forgetting import learned_first_epoch as learned_first_epoch
from hardness.metrics.forgetting import never_learned as never_learned
from hardness.metrics.gradients import grand as grand
from hardness.metrics.gradients import grand_last_layer as grand_last_layer
from hardness.metrics.gradients import vog as vog
from hardness.metrics.gradients import vog_class_z as vog_class_z
from hardness.metrics.gradients import vog_prob as vog_prob
from hardness.metrics.holdout import irreducible_loss as irreducible_loss
from hardness.metrics.holdout import rho_loss as rho_loss
from hardness.metrics.label_margin import aum as aum
from hardness.metrics.label_margin import aum_pre_decay as aum_pre_decay
from hardness.metrics.label_quality import (
    label_quality_normalized_margin as label_quality_normalized_margin,
)
from hardness.metrics.label_quality import (
    label_quality_self_confidence as label_quality_self_confidence,
)
from hardness.metrics.loss import mean_loss as mean_loss
from hardness.metrics.loss_gradient import lgn_mean as lgn_mean
from hardness.metrics.loss_gradient import lgn_std as lgn_std
from hardness.metrics.neighborhood import has_duplicate as has_duplicate
from hardness.metrics.neighborhood import knn_distance as knn_distance
from hardness.metrics.neighborhood import knn_label_disagreement as knn_label_disagreement
from hardness.metrics.neighborhood import lid_mle as lid_mle
from hardness.metrics.neighborhood import lid_mle_harmonic as lid_mle_harmonic
from hardness.metrics.neighborhood import lid_mle_pixels as lid_mle_pixels
from hardness.metrics.outliers import isolation_forest as isolation_forest
from hardness.metrics.outliers import lof as lof
from hardness.metrics.pixels import image_compressed_size as image_compressed_size
from hardness.metrics.pixels import image_entropy as image_entropy
from hardness.metrics.pixels import image_l2_norm as image_l2_norm
from hardness.metrics.pixels import total_variation as total_variation
from hardness.metrics.prototypes import prototypicality as prototypicality
from hardness.metrics.prototypes import (
    prototypicality_of_random_states as prototypicality_of_random_states,
)
from hardness.metrics.prototypes import prototypicality_supervised as prototypicality_supervised
from hardness.metrics.registry import METRICS as METRICS
from hardness.metrics.registry import Metric as Metric
from hardness.metrics.registry import labels_used as labels_used
from hardness.metrics.registry import metric as metric
from hardness.metrics.second_split import learned_at_switch as learned_at_switch
from hardness.metrics.second_split import seed_changes as seed_changes
from hardness.metrics.second_split import seed_fsrt as seed_fsrt
from hardness.metrics.second_split import seed_ssft as seed_ssft
from hardness.metrics.second_split import ssft as ssft
from hardness.metrics.self_supervised import reconstruction_error as reconstruction_error
from hardness.metrics.self_supervised import ssl_loss_barlow as ssl_loss_barlow
from hardness.metrics.self_supervised import ssl_loss_ntxent as ssl_loss_ntxent
from hardness.metrics.self_supervised import ssl_param_grad_norm as ssl_param_grad_norm
from hardness.metrics.self_supervised import ssl_perturbation_gain as ssl_perturbation_gain
from hardness.metrics.softmax import energy as energy
from hardness.metrics.softmax import margin as margin
from hardness.metrics.softmax import max_softmax as max_softmax
from hardness.metrics.softmax import predictive_entropy as predictive_entropy
