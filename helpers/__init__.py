"""Where did you look, and at what? Small, tested tools to ask a network for its reasons.

- The explicit way, for VGG-style networks: `steps` (each layer both ways), `deconvnet` (the
  walk), `guided` (all maps from one pass up), `gradcam`. The rules and the table of methods:
  `methods`. Whether a network is what its layers say: `self_check`.
- By autograd, for any network: `any_network`, with `signal_path`, `feature_maps`, `targets`.
- More maps: `cams`, `mean_gradients`.
- Networks and photos: `network`, `models`, `loading`, `twins`, `attention`; `images`,
  `preprocess`.
- What maps are worth and how they are shown: `metrics`, `sanity`; `scaling`, `plotting`,
  `figure_words`.
- Under all of these: `checks`, `errors`. Above them: `interactive`, imported by name only.
"""

from .any_network import (
    ReluRule,
    all_maps_any,
    grad_cam_any,
    grad_cam_any_each,
    guided_gradcam_any,
    guided_gradcam_any_each,
    saliency_any,
    saliency_any_each,
)
from .attention import load_attention
from .checks import check_classes, check_photos, evaluating
from .deconvnet import (
    METHODS,
    Deconvnet,
    Gradient,
    GuidedBackprop,
    Trace,
    one_hot,
    strongest_unit,
)
from .errors import ModelError, ModelUnavailable, PhotoError
from .feature_maps import Layer, layers
from .gradcam import GradCAM, cam_from_gradient, grad_cam, grad_cam_each, resize_maps
from .guided import (
    GuidedGradCAM,
    all_maps,
    guided_gradcam,
    guided_gradcam_each,
    saliency,
)
from .images import SAMPLES, load_photo, sample
from .loading import load_any
from .mean_gradients import integrated_gradients, smooth_grad
from .metrics import (
    blurred,
    centre_gaussian,
    edge_strength,
    energy_in_box,
    hog_correlation,
    imputed,
    pointing_game,
    rank_correlation,
    replacement_curve,
    road_curve,
    ssim,
)
from .models import CATS, MODELS, Model, choose_device, load_model
from .network import VGG16, fold_batch_norm
from .plotting import heat_map, overlay, show_bars, show_curves, show_probabilities, show_row
from .preprocess import Preprocess
from .sanity import cascade, independent, randomise, weighted_layers
from .targets import Scores, contrast
from .twins import load_twin, two_digits

__version__ = "0.2.0"

__all__ = [
    "CATS",
    "Deconvnet",
    "GradCAM",
    "Gradient",
    "GuidedBackprop",
    "GuidedGradCAM",
    "Layer",
    "METHODS",
    "MODELS",
    "Model",
    "ModelError",
    "ModelUnavailable",
    "PhotoError",
    "Preprocess",
    "ReluRule",
    "SAMPLES",
    "Scores",
    "Trace",
    "VGG16",
    "all_maps",
    "all_maps_any",
    "blurred",
    "cam_from_gradient",
    "cascade",
    "centre_gaussian",
    "check_classes",
    "check_photos",
    "choose_device",
    "contrast",
    "edge_strength",
    "energy_in_box",
    "evaluating",
    "fold_batch_norm",
    "grad_cam",
    "grad_cam_any",
    "grad_cam_any_each",
    "grad_cam_each",
    "guided_gradcam",
    "guided_gradcam_any",
    "guided_gradcam_any_each",
    "guided_gradcam_each",
    "heat_map",
    "hog_correlation",
    "imputed",
    "independent",
    "integrated_gradients",
    "layers",
    "load_any",
    "load_attention",
    "load_model",
    "load_photo",
    "load_twin",
    "one_hot",
    "overlay",
    "pointing_game",
    "randomise",
    "rank_correlation",
    "replacement_curve",
    "resize_maps",
    "road_curve",
    "saliency",
    "saliency_any",
    "saliency_any_each",
    "sample",
    "show_bars",
    "show_curves",
    "show_probabilities",
    "show_row",
    "smooth_grad",
    "ssim",
    "strongest_unit",
    "two_digits",
    "weighted_layers",
]
