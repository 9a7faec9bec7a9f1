"""Fixtures that are dear to make, made once."""

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
