"""Networks and photos for the tests: random, seeded, cheap to make."""

from __future__ import annotations

import copy
import math

import torch
import torchvision
from torch import nn

from helpers import VGG16, fold_batch_norm


def noise(
    n: int, height: int, width: int | None = None, dtype=torch.float32, seed: int = 0
) -> torch.Tensor:
    """Random "photos" ``(n, 3, height, width)``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, height, width or height, generator=generator, dtype=dtype)


@torch.no_grad()
def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random parameters that keep signals alive through all layers; statistics as after training.

    In eval mode.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.normal_(0, math.sqrt(2 / module.weight[0].numel()), generator=generator)
            if module.bias is not None:
                module.bias.normal_(0, 0.1, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.5, generator=generator)
            module.bias.normal_(0, 0.1, generator=generator)
            module.running_mean.normal_(0, 0.5, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.num_batches_tracked.zero_()
    return network.eval()


def torchvision_vgg(name: str, hidden: int = 32, classes: int = 10) -> nn.Module:
    """One of torchvision's networks, random; ``hidden`` narrows the classifier, the most of it."""
    with torch.device(
        "meta"
    ):  # torchvision's own initialisation would take most of the tests' time
        network = getattr(torchvision.models, name)(weights=None, init_weights=False)
        if hidden != 4096:
            network.classifier = nn.Sequential(
                nn.Linear(512 * 7 * 7, hidden),
                nn.ReLU(True),
                nn.Dropout(),
                nn.Linear(hidden, hidden),
                nn.ReLU(True),
                nn.Dropout(),
                nn.Linear(hidden, classes),
            )
    return randomise(network.to_empty(device="cpu"))


def narrow(
    widths=(4, 6, 8, 10, 12),
    hidden: int = 9,
    pooled: int = 3,
    classes: int = 7,
    ceil_mode: bool = False,
) -> VGG16:
    """Our own VGG-16, a few channels wide."""
    network = randomise(VGG16(classes, widths=widths, hidden=hidden, pooled=pooled, dropout=0.5))
    for module in network.modules():
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = ceil_mode
    return network


#: Every shape of network that the walks are compared on.
NETWORKS = {
    "vgg11": lambda: torchvision_vgg("vgg11"),
    "vgg13": lambda: torchvision_vgg("vgg13"),
    "vgg19": lambda: torchvision_vgg("vgg19"),
    "vgg11_bn folded": lambda: fold_batch_norm(torchvision_vgg("vgg11_bn")),
    "narrow": narrow,
    "uneven": lambda: narrow(widths=(3, 16, 5, 24, 8), hidden=40, pooled=1),
    "7x7 windows": lambda: narrow(pooled=7),
    "ceil_mode": lambda: narrow(ceil_mode=True),
}


def replace_relus(network: nn.Module, make) -> nn.Module:
    """A copy of the network with ``make()`` in place of each ReLU."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, make())
    return network


def for_captum(network: nn.Module) -> nn.Module:
    """A copy whose ReLUs do not work in place, as captum's hooks need it."""
    return replace_relus(network, nn.ReLU)
