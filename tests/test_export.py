"""The explanation as an ONNX graph: onnxruntime against PyTorch's walk, and what the file holds."""

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from helpers import METHODS, ModelError, grad_cam, guided_gradcam, resize_maps, saliency
from helpers.interactive.export import INPUTS, OUTPUTS, Explanation, _rounding_error, export_onnx

from .networks import narrow, noise, torchvision_vgg

#: All that the graph is made of: nothing in it differentiates.
OPERATORS = set(
    """
    Conv ConvTranspose MaxPool ScatterElements AveragePool ReduceMean Gemm MatMul Max Clip Relu
    Greater Less Equal Where ArgMax Mul Sub Einsum Resize Cast Reshape Slice Gather GatherND
    Unsqueeze Squeeze Transpose ConstantOfShape Range Identity Concat Add Expand Flatten Shape
    """.split()
)


@pytest.fixture(scope="module")
def exported(embedded, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    return path, export_onnx(embedded.network, path, embedded.input_size)


def answers(path, x, c):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = dict(zip(INPUTS, (x.numpy(), np.array([c])), strict=True))
    return dict(zip(OUTPUTS, session.run(list(OUTPUTS), inputs), strict=True))


def by_the_helpers(network, x, c):
    """The same from the tested helpers, each on its own."""
    cam = grad_cam(network, x, c)
    maps = {method: saliency(network, x, c, method) for method in METHODS}
    product = guided_gradcam(network, x, c).maps
    resized = resize_maps(cam.maps, x.shape[-2:])
    outputs = [cam.scores, cam.classes, resized, *maps.values(), product]
    return dict(zip(OUTPUTS, outputs, strict=True))


def check(got, want, tolerance=1e-5):
    """Every output, by its largest value: at most ``tolerance`` off on average.

    Single pixels may be further off, by 2 %: where a ReLU's input is nearly zero, or two places
    of a window nearly equal, rounding decides about a mask or a switch.
    """
    assert got.keys() == want.keys()
    assert np.array_equal(got["explained"], want["explained"])
    for name in set(want) - {"explained"}:
        values = want[name]
        assert np.abs(np.asarray(values)).max() > 0, name
        off = np.abs(got[name] - np.asarray(values)) / np.abs(np.asarray(values)).max()
        assert off.mean() <= tolerance and off.max() <= 0.02, name
        if name == "scores":
            assert off.max() <= tolerance


@pytest.mark.parametrize("c", [None, 7])
def test_onnxruntime_gives_what_the_methods_give(embedded, photos, exported, c):
    for photo in photos.split(1):
        check(
            answers(exported[0], photo, -1 if c is None else c),
            by_the_helpers(embedded.network, photo, c),
        )


@pytest.mark.parametrize(
    "make, size",
    [
        (narrow, 75),
        (lambda: narrow(ceil_mode=True), 50),
        pytest.param(lambda: torchvision_vgg("vgg11"), 64, marks=pytest.mark.slow),
    ],
    ids=["odd size", "ceil mode", "vgg11"],
)
def test_networks_and_sizes(tmp_path, make, size):
    network, x = make(), noise(1, size)
    stored = export_onnx(network, tmp_path / "model.onnx", size)
    if stored["dtype"] == "float16":
        network = copy.deepcopy(network).half().float()
    # random networks have classes that no place speaks for
    c = next(c for c in range(7) if grad_cam(network, x, c).maps.any())
    check(answers(tmp_path / "model.onnx", x, c), by_the_helpers(network, x, c))


def test_batches_are_explained_each_photo_for_itself(embedded, photos):
    explanation = Explanation(embedded.network)
    wanted = torch.tensor([-1, 5, 7])
    with torch.no_grad():
        together = explanation(photos, wanted)
        for i in range(len(photos)):
            alone = explanation(photos[i : i + 1], wanted[i : i + 1])
            for all_of_them, one in zip(together, alone, strict=True):
                torch.testing.assert_close(all_of_them[i : i + 1], one, rtol=1e-3, atol=1e-5)


def test_every_weight_is_stored_once_and_in_half_precision(embedded, exported):
    path, stored = exported
    graph = onnx.load(path).graph
    values = [numpy_helper.to_array(initializer) for initializer in graph.initializer]
    parameters = sum(p.numel() for p in embedded.network.parameters())
    weights = [v for v in values if v.dtype == np.float16]
    small = sum(p.numel() for p in embedded.network.parameters() if p.numel() < 64)
    assert sum(v.size for v in weights) == pytest.approx(parameters - small, abs=2000)
    assert stored == {
        "bytes": path.stat().st_size,
        "dtype": "float16",
        "error": 0.0,
    }  # they came in half precision
    assert path.stat().st_size < 2 * parameters + 60_000


def test_the_graph_is_plain_and_names_no_file(exported):
    graph = onnx.load(exported[0]).graph
    assert {node.op_type for node in graph.node} <= OPERATORS
    assert [i.name for i in graph.input] == list(INPUTS) and [o.name for o in graph.output] == list(
        OUTPUTS
    )
    raw = exported[0].read_bytes()
    assert b".py" not in raw and b"/" + b"home" not in raw and b"site-packages" not in raw


def test_weights_that_half_precision_would_move_stay_in_single(tmp_path):
    network = narrow()
    with torch.no_grad():
        network.classifier[-1].weight.mul_(1e-7)  # below float16's smallest steps
    stored = export_onnx(network, tmp_path / "model.onnx", 64)
    assert stored["dtype"] == "float32" and stored["error"] > 1e-3
    x = noise(1, 64)
    check(answers(tmp_path / "model.onnx", x, -1), by_the_helpers(network, x, None), tolerance=1e-4)


def test_weights_beyond_half_precision_stay_in_single():
    network = narrow()
    with torch.no_grad():
        network.classifier[-1].bias[0] = 1e5
    assert _rounding_error(network, noise(1, 64), torch.tensor([-1])) == np.inf


def test_the_network_is_left_as_it_was(tmp_path, network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    network.double()
    export_onnx(network, tmp_path / "model.onnx", 64)
    assert network.training and all(
        p.requires_grad and p.grad is None and p.dtype == torch.float64
        for p in network.parameters()
    )
    assert all(
        torch.equal(value.float(), before[name]) for name, value in network.state_dict().items()
    )


def test_another_kind_of_network_is_refused(tmp_path):
    with pytest.raises(ModelError, match="not VGG-style"):
        export_onnx(nn.Sequential(nn.Conv2d(3, 4, 3)), tmp_path / "model.onnx", 64)
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named(tmp_path, network, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(ModelError, match="pip install onnx onnxscript"):
        export_onnx(network, tmp_path / "model.onnx", 64)
