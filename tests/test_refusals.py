"""Networks and classes that cannot be explained, and what the message says."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from helpers import (
    METHODS,
    VGG16,
    Deconvnet,
    ModelError,
    grad_cam,
    grad_cam_any,
    guided_gradcam,
    guided_gradcam_each,
    saliency,
    saliency_any,
)

from .networks import noise, randomise

EXPLAIN = {
    "grad_cam": grad_cam,
    "guided_gradcam": guided_gradcam,
    "saliency": saliency,
    "saliency_any": saliency_any,
    "grad_cam_any": lambda network, x, classes=None: grad_cam_any(
        network, x, network.features, classes
    ),
}
every = pytest.mark.parametrize("explain", EXPLAIN.values(), ids=EXPLAIN.keys())


def small(*features, avgpool=None, forward=None):
    """Features, pooling and classifier around one odd part."""
    network = VGG16(3, widths=(4,) * 5, hidden=5)
    network.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *features)
    network.avgpool = avgpool or nn.AdaptiveAvgPool2d(2)
    if forward:
        network.forward = lambda x: forward(network, x)
    return randomise(network)


def head(network, x):
    return network.classifier(network.avgpool(x).flatten(1))


def on_meta(name):
    with torch.device("meta"):
        return getattr(torchvision.models, name)(weights=None)


ODD = {
    "resnet18": (lambda: on_meta("resnet18"), "ResNet is not VGG-style.*saliency_any"),
    "alexnet's overlapping pooling": (
        lambda: on_meta("alexnet"),
        "windows side by side.*kernel_size=3, stride=2",
    ),
    "unfolded batch normalisation": (lambda: on_meta("vgg11_bn"), "fold_batch_norm"),
    "dilated pooling": (lambda: small(nn.MaxPool2d(2, dilation=2)), "windows side by side"),
    "functional ReLU": (
        lambda: small(forward=lambda n, x: head(n, F.relu(n.features(x)))),
        "F.relu.*nn.ReLU",
    ),
    "skip connection": (
        lambda: small(
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1),
            forward=lambda n, x: head(n, n.features(x) + n.features[:2](x)),
        ),
        "skip connection",
    ),
    "changed input": (
        lambda: small(forward=lambda n, x: head(n, n.features(x * 2))),
        "computes more than its modules show",
    ),
    "more scores": (
        lambda: small(forward=lambda n, x: head(n, n.features(x)).repeat(1, 2)),
        "computes more than its modules show",
    ),
    "padding in words": (
        lambda: small(nn.Conv2d(4, 4, 3, padding="same")),
        "number of zeros as padding",
    ),
    "reflected padding": (
        lambda: small(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")),
        "number of zeros as padding",
    ),
    "sigmoid": (lambda: small(nn.Sigmoid()), "Sigmoid has no way back here"),
    "leaky ReLU": (lambda: small(nn.LeakyReLU()), "LeakyReLU has no way back here"),
    "average pooling in the features": (
        lambda: small(nn.AvgPool2d(2)),
        "AvgPool2d has no way back here",
    ),
    "a module of modules": (
        lambda: small(nn.Sequential(nn.ReLU())),
        "Sequential has no way back here",
    ),
}


@pytest.mark.parametrize("make, message", ODD.values(), ids=ODD.keys())
def test_networks_without_a_way_back_are_refused(make, message):
    with pytest.raises(ModelError, match=message):
        Deconvnet(make())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121"])
def test_grad_cam_refuses_networks_it_cannot_split(name):
    with pytest.raises(ModelError, match="not VGG-style.*grad_cam_any"):
        grad_cam(on_meta(name), noise(1, 64), 0)


@pytest.mark.parametrize("layer", [31, -32])
def test_grad_cam_refuses_layers_that_do_not_exist(network, layer):
    with pytest.raises(ModelError, match=f"layers 0 to 30, not {layer}"):
        grad_cam(network, noise(1, 32), 0, layer=layer)


def test_unknown_methods_and_units_are_refused(network):
    with pytest.raises(ModelError, match="no method 'lime'.*" + ", ".join(METHODS)):
        saliency(network, noise(1, 32), 0, "lime")
    with pytest.raises(ValueError, match='"all" or "strongest", not \'some\''):
        Deconvnet(network).from_features(noise(1, 32), "some")


CLASSES = {
    "too high": (7, IndexError, "no class 7: .*classes 0 to 6"),
    "negative": (-1, IndexError, "no class -1: .*classes 0 to 6"),
    "one of two": ([0, 99], IndexError, "no class 99: .*classes 0 to 6"),
    "one of two in a tensor": (torch.tensor([0, -7]), IndexError, "no class -7: "),
    "more than 64 bits": (10**30, IndexError, "no class 10{30}: "),
    "more than 64 bits, in a list": ([0, 2**63], IndexError, "no class 9223372036854775808: "),
    "unsigned": (np.uint64(2**63), IndexError, "no class 9223372036854775808: "),
    "float": (1.0, TypeError, "whole numbers.*got 1.0"),
    "one float of two": ([1, 2.5], TypeError, "whole numbers.*got 2.5"),
    "float tensor": (torch.tensor([1.0, 2.0]), TypeError, "whole numbers.*got 1.0"),
    "float array": (np.array([1.0, 2.0]), TypeError, "whole numbers.*got 1.0"),
    "complex": (torch.tensor([1j, 2]), TypeError, "whole numbers"),
    "NaN": (float("nan"), TypeError, "whole numbers.*got nan"),
    "bool": (True, TypeError, "whole numbers.*got True"),
    "bool beside a number": ([1, True], TypeError, "whole numbers.*got True"),
    "bool array": (np.array([True, False]), TypeError, "whole numbers.*got True"),
    "bool tensor": (torch.tensor([False, True]), TypeError, "whole numbers.*got False"),
    "word": ("tabby", TypeError, r"class_index"),
    "words": (["tabby", "tabby"], TypeError, r"class_index"),
    "words in an array": (np.array(["1", "2"]), TypeError, "class_index.*got '1'"),
    "bytes": (b"\x01\x02", TypeError, "whole numbers"),
    "None for each": ([None, None], TypeError, "whole numbers.*got None"),
    "None beside a number": ([0, None], TypeError, "whole numbers.*got None"),
    "a set": ({0, 1}, TypeError, "whole numbers"),
    "a dict": ({0: 1}, TypeError, "whole numbers"),
    "a generator": ((c for c in (0, 1)), TypeError, "whole numbers.*generator"),
    "an object": (object(), TypeError, "whole numbers.*object"),
    "none in a list": ([], ValueError, r"each of the 2 photos, got shape \(0,\)"),
    "none in a tensor": (torch.tensor([]), ValueError, r"got shape \(0,\)"),
    "uneven": ([[0], [1, 2]], ValueError, "same length"),
    "a number beside a list": ([0, [1]], ValueError, "same length"),
    "three for two": ([0, 1, 2], ValueError, r"each of the 2 photos, got shape \(3,\)"),
    "one in a list": ([0], ValueError, r"got shape \(1,\)"),
    "nested": ([[0, 1]], ValueError, r"got shape \(1, 2\)"),
    "a row": (torch.tensor([[0, 1]]), ValueError, r"got shape \(1, 2\)"),
    "a column": (np.array([[0], [1]]), ValueError, r"got shape \(2, 1\)"),
}


@every
@pytest.mark.parametrize("classes, error, message", CLASSES.values(), ids=CLASSES.keys())
def test_classes_that_are_none_are_refused(network, explain, classes, error, message):
    with pytest.raises(error, match=message):
        explain(network, noise(2, 32), classes)


@pytest.mark.parametrize(
    "name",
    [name for name, case in CLASSES.items() if case[1] is not ValueError or "uneven" in name],
)
def test_each_of_several_classes_is_looked_at(network, name):
    classes, error, message = CLASSES[name]
    several = classes if isinstance(classes, (list, np.ndarray, torch.Tensor)) else [classes]
    with pytest.raises(error, match=message):
        guided_gradcam_each(network, noise(2, 32), several)
