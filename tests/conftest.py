"""Fixtures that are dear to make, made once."""

import copy

import matplotlib

matplotlib.use("Agg")

import pytest
from matplotlib import pyplot as plt

from helpers import load_model, sample

from .browser import built, chromium, page, site  # noqa: F401  (fixtures)
from .networks import narrow, torchvision_vgg


@pytest.fixture(scope="session")
def embedded():
    return load_model("embedded", device="cpu")


@pytest.fixture(scope="session")
def photos(embedded):
    """Three preprocessed samples; tests must not write into them."""
    return embedded.prepare([sample(name) for name in ("chelsea", "coffee", "astronaut")])


@pytest.fixture(scope="session")
def exact(embedded, photos):
    """The embedded network in float64, and of each photo a part of 80 x 64 pixels.

    In float32 rounding decides about a mask where a ReLU's input is nearly zero, and about a switch
    where two values of a window are nearly equal; and it depends on the machine and its threads.
    """
    return copy.deepcopy(embedded.network).double(), photos[..., 24:104, 32:96].double()


@pytest.fixture(scope="session")
def full_vgg16():
    """torchvision's VGG-16 in its full size, 138 million random parameters."""
    return torchvision_vgg("vgg16", hidden=4096)


@pytest.fixture
def network():
    """A small network of this test's own."""
    return narrow()


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")
