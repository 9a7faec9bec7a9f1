"""Where did you look, and at what? Small, tested tools to ask a VGG-style network."""

from . import errors, scaling
from .any_network import ReluRule, grad_cam_any, guided_gradcam_any, saliency_any
from .architecture import VGG16, fold_batch_norm
from .checks import check_classes, check_photos, evaluating
from .deconvnet import Deconvnet, Trace, one_hot, strongest_unit
from .errors import ModelError, ModelUnavailable, PhotoError
from .gradcam import GradCAM, cam_from_gradient, grad_cam, resize_maps
from .guided_backprop import METHODS, Gradient, GuidedBackprop, saliency
from .guided_gradcam import (
    GuidedGradCAM,
    all_maps,
    guided_gradcam,
    guided_gradcam_each,
    with_bfloat16_classifier,
)
from .images import SAMPLES, Preprocess, load_photo, sample
from .metrics import (
    blurred,
    centre_gaussian,
    edge_strength,
    energy_in_box,
    pointing_game,
    rank_correlation,
    replacement_curve,
    ssim,
)
from .models import CATS, MODELS, Model, choose_device, load_model
from .plotting import heat_map, overlay, show_bars, show_curves, show_probabilities, show_row
from .sanity import cascade, independent, randomise, weighted_layers

__version__ = "0.1.0"

# everything imported above, without the submodules themselves
__all__ = sorted(
    name
    for name, value in globals().items()
    if name[0] != "_" and not isinstance(value, type(errors))
)
