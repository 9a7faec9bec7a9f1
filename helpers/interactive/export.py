"""A network's explanation as one ONNX graph, which runs where there is no Python: in a browser.

Every other implementation needs an engine that records the way up and differentiates it. The
explicit walk is made of plain operators both ways, so up, down and product are one feed-forward
graph. ``onnx`` and ``onnxscript`` are needed to write it (``pip install onnx onnxscript``).
"""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..errors import ModelError
from ..explicit.deconvnet import Deconvnet
from ..explicit.guided import explain
from ..explicit.self_check import probe
from ..methods import REGIONS_FIRST

#: What goes into the graph and what comes out of it, in order.
INPUTS = ("photo", "class")
OUTPUTS = ("scores", "explained", *(row.key for row in REGIONS_FIRST))
#: Weights are stored in float16 if that moves no output by more than this share of its largest.
HALF_TOLERANCE = 1e-3
#: The version of ONNX's operators: one that the runtime of the page knows.
OPSET = 20


class Explanation(nn.Module):
    """One pass up and every method's way down, as a module without state or autograd.

    Parameters are shared with ``network`` (VGG-style, see :class:`helpers.Deconvnet`, whose
    errors it raises), which is not changed.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.net = Deconvnet(network)

    def forward(self, photo: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Explain one class a photo.

        ``photo``: normalised ``(N, 3, H, W)``, float. ``wanted``: int64 ``(N,)``, a class, or -1
        for the photo's top class. Returns, in the order of :data:`OUTPUTS`, scores
        ``(N, classes)``, the classes explained ``(N,)``, and every method's map, Grad-CAM
        ``(N, H, W)``, >= 0, and the others ``(N, 3, H, W)``, signed. Nothing is scaled.
        """
        trace = self.net.up(photo)
        explained = torch.where(wanted < 0, trace.scores.argmax(dim=1), wanted)
        maps = explain(self.net, trace, explained[:, None])
        return trace.scores, explained, *(maps[name][:, 0] for name in OUTPUTS[2:])


def export_onnx(network: nn.Module, path: str | Path, size: int) -> dict:
    """Write the explanation of a VGG-style network as one ONNX file.

    The graph takes one photo: :data:`INPUTS` ``photo`` float32 ``(1, 3, size, size)`` and ``class``
    int64 ``(1,)``, -1 for the top class; its :data:`OUTPUTS` are what :class:`Explanation`
    returns. A weight is stored once, for the convolution and its transposed convolution, in
    float16 if no output moves by more than :data:`HALF_TOLERANCE` of its largest value; the
    arithmetic is float32.

    Parameters
    ----------
    network : nn.Module
        On any device, of any dtype; a float32 copy of it is exported.
    path : str or Path
        The file to write.
    size : int
        Side of the photo in pixels, >= 32.

    Returns
    -------
    dict
        ``bytes``, the size of the file; ``dtype``, "float16" or "float32"; ``error``, how far
        rounding to float16 moves an output at most, as a share of its largest value.

    Raises
    ------
    ModelError
        As :class:`helpers.Deconvnet`; also if ``onnx`` or ``onnxscript`` is missing.
    ValueError
        If the size is below 32.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  (what torch.onnx.export writes the graph with)
    except ImportError as missing:
        raise ModelError(
            f"{missing.name} is needed to write ONNX: pip install onnx onnxscript"
        ) from missing
    network = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    photo, wanted = probe(size), torch.tensor([-1])
    error = _rounding_error(network, photo, wanted)
    made = torch.onnx.export(
        Explanation(network).eval(), (photo, wanted), dynamo=True, opset_version=OPSET,
        input_names=list(INPUTS), output_names=list(OUTPUTS), verbose=False,
    ).model_proto  # fmt: skip
    _pack(made.graph, half=error <= HALF_TOLERANCE)
    onnx.checker.check_model(made, full_check=True)
    path = Path(path)
    path.write_bytes(made.SerializeToString(deterministic=True))
    return {
        "bytes": path.stat().st_size,
        "dtype": "float16" if error <= HALF_TOLERANCE else "float32",
        "error": error,
    }


@torch.no_grad()
def _rounding_error(network: nn.Module, photo: torch.Tensor, wanted: torch.Tensor) -> float:
    """How far an output moves, as a share of its largest value, if weights become float16."""
    exact = Explanation(network)(photo, wanted)
    try:
        rounded = Explanation(copy.deepcopy(network).half().float())(photo, exact[1])
    except ModelError:  # numbers beyond float16
        return math.inf
    return max(
        float((a - b).abs().max() / a.abs().max().clamp(min=1e-30))
        for a, b in zip(exact, rounded, strict=True)
        if a.is_floating_point()
    )


def _pack(graph, half: bool) -> None:
    """Make the file small.

    Canvases of zeros become an operator that makes them, weights become float16, and notes on where
    in the source each operator comes from go.
    """
    from onnx import TensorProto, helper, numpy_helper

    made = []
    for stored in list(graph.initializer):
        values = numpy_helper.to_array(stored)
        if values.dtype != np.float32 or values.size < 64:
            continue
        if not values.any():
            source = numpy_helper.from_array(np.array(values.shape), f"{stored.name}.shape")
            made.append(helper.make_node("ConstantOfShape", [source.name], [stored.name]))
        elif half:
            source = numpy_helper.from_array(values.astype(np.float16), f"{stored.name}.float16")
            made.append(
                helper.make_node("Cast", [source.name], [stored.name], to=TensorProto.FLOAT)
            )
        else:
            continue
        graph.initializer.remove(stored)
        graph.initializer.append(source)
    nodes = [*made, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    for part in [
        graph,
        *graph.node,
        *graph.initializer,
        *graph.input,
        *graph.output,
        *graph.value_info,
    ]:
        del part.metadata_props[:]
