"""Where did you look, and at what? Small, tested tools to ask a network for its reasons.

Four rooms, each of which imports from itself, those above it and what stands beside them:

- `networks`: VGG's layout, the networks that the book asks, and photos for them.
- `explicit`: Grad-CAM, and each layer up and down, for networks laid out as VGG (chapters 1 to 4).
- `autograd`: the same maps, and more, for any network (chapters 10, 14, 15).
- `interactive`: what one steps through and plays with, the command line, the ONNX graph; imported
  by name only.

Beside them, for all rooms: the table of `methods` and their rules; what is explained (`targets`)
and what is refused (`checks`, `errors`); how maps are shown (`scaling`, `plotting`,
`figure_words`); and what they are worth (`metrics`, `sanity`).
"""

from .autograd.any_network import (
    ReluRule,
    all_maps_any,
    grad_cam_any,
    grad_cam_any_each,
    guided_gradcam_any,
    guided_gradcam_any_each,
    saliency_any,
    saliency_any_each,
)
from .autograd.feature_maps import Layer, layers
from .autograd.mean_gradients import integrated_gradients, smooth_grad
from .checks import check_classes, check_photos, evaluating
from .errors import ModelError, ModelUnavailable, PhotoError
from .explicit.deconvnet import (
    METHODS,
    Deconvnet,
    Gradient,
    GuidedBackprop,
    Trace,
    one_hot,
    strongest_unit,
)
from .explicit.gradcam import GradCAM, cam_from_gradient, grad_cam, grad_cam_each, resize_maps
from .explicit.guided import (
    GuidedGradCAM,
    all_maps,
    guided_gradcam,
    guided_gradcam_each,
    saliency,
)
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
from .networks.attention import load_attention
from .networks.images import SAMPLES, load_photo, sample
from .networks.loading import load_any
from .networks.models import CATS, MODELS, Model, choose_device, load_model
from .networks.preprocess import Preprocess
from .networks.twins import load_twin, two_digits
from .networks.vgg import VGG16, fold_batch_norm
from .plotting import heat_map, overlay, show_bars, show_curves, show_probabilities, show_row
from .sanity import cascade, independent, randomise, weighted_layers
from .targets import Scores, contrast

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
