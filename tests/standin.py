"""Run the book with a network of VGG-16's full size: ``python -m tests.standin [NOTEBOOK ...]``.

torchvision's weights are 528 MB and cannot be fetched everywhere. So a stand-in of the same layout
and size computes the embedded network's function: its channels lie in the first of VGG-16's, all
others stay silent, its classes stand at their places among ImageNet's 1000. It is written to a
folder that torch.hub takes for its cache, and every notebook is executed with
``EXPLAIN_MODEL=vgg16``. Outputs are not compared; assertions have to hold.

Fails if a cell raises, takes more than two minutes, or a kernel needs more than 6 GB.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from torch import nn
from torchvision.models import VGG16_Weights, vgg16

from helpers import load_model

from .chapters import NOTEBOOKS, ROOT

SECONDS, GIGABYTES = 120, 6
#: The score of a class that the embedded network does not know, and the size of its weights: such
#: a class can be asked about, and has maps.
SILENT, FAINT = -20.0, 1e-3


@torch.no_grad()
def standin() -> nn.Module:
    """torchvision's VGG-16 with 1000 classes, in eval mode, that knows what the embedded one knows.

    At 224 pixels its last feature maps have 7 x 7 places, which its own average pooling leaves
    alone; the embedded network's pooling to 2 x 2 is part of the first fully connected layer.
    """
    small = load_model("embedded", device="cpu")
    with torch.device("meta"):
        large = vgg16(weights=None, init_weights=False)
    large = large.to_empty(device="cpu").eval()
    for parameter in large.parameters():
        parameter.zero_()
    for wide, narrow in zip(large.features, small.network.features, strict=True):
        if isinstance(narrow, nn.Conv2d):
            out, into = narrow.weight.shape[:2]
            wide.weight[:out, :into] = narrow.weight
            wide.bias[:out] = narrow.bias
    first, second, last = (small.network.classifier[i] for i in (0, 3, 6))
    channels = small.network.features[-3].out_channels
    pooled = small.network.avgpool.output_size[0]
    pooling = torch.nn.functional.adaptive_avg_pool2d(torch.eye(49).view(49, 1, 7, 7), pooled)
    weight = first.weight.view(-1, channels, pooled**2) @ pooling.view(49, -1).T
    hidden = len(weight)
    large.classifier[0].weight.view(4096, 512, 49)[:hidden, :channels] = weight
    large.classifier[0].bias[:hidden] = first.bias
    large.classifier[3].weight[:hidden, :hidden] = second.weight
    large.classifier[3].bias[:hidden] = second.bias
    names = VGG16_Weights.IMAGENET1K_V1.meta["categories"]
    places = [names.index(name) for name in small.class_names]
    large.classifier[6].bias[:] = SILENT
    faint = torch.randn(len(names), hidden, generator=torch.Generator().manual_seed(0))
    large.classifier[6].weight[:, :hidden] = FAINT * faint
    large.classifier[6].bias[places] = last.bias
    large.classifier[6].weight[places, :hidden] = last.weight
    return large


def execute(path: Path, environment: dict[str, str]) -> tuple[float, float, str]:
    """Seconds of the longest cell, peak gigabytes of the kernel, and what went wrong, if any."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(
        "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    ))  # fmt: skip
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": path.parent}},
    )
    longest, trouble = 0.0, ""
    with client.setup_kernel(env=environment):
        for index, cell in enumerate(notebook.cells):
            began = time.perf_counter()
            if "skip-execution" in cell.metadata.get("tags", []):
                continue
            try:
                client.execute_cell(cell, index)
            except CellTimeoutError:
                return SECONDS, float("nan"), f"cell {index} takes more than {SECONDS} s"
            except CellExecutionError as error:
                trouble = trouble or f"cell {index}: {error.ename}: {error.evalue}"
            longest = max(longest, time.perf_counter() - began)
    gigabytes = int(notebook.cells[-1].outputs[0].text) / 2**20
    if gigabytes > GIGABYTES:
        trouble = trouble or f"needs more than {GIGABYTES} GB"
    return longest, gigabytes, trouble


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, default=NOTEBOOKS)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as home:
        weights = Path(home) / "hub" / "checkpoints" / Path(VGG16_Weights.IMAGENET1K_V1.url).name
        weights.parent.mkdir(parents=True)
        torch.save(standin().state_dict(), weights)
        chosen = {"EXPLAIN_MODEL": "vgg16", "TORCH_HOME": home, "PYTHONPATH": str(ROOT)}
        troubles = 0
        for path in args.notebooks:
            longest, gigabytes, trouble = execute(path, {**os.environ, **chosen})
            troubles += bool(trouble)
            facts = f"longest cell {longest:5.1f} s, {gigabytes:.1f} GB"
            print(f"{path.name:35} {facts}  {trouble or 'ok'}", flush=True)
    print(f"{len(args.notebooks) - troubles} passed, {troubles} failed")
    return troubles > 0


if __name__ == "__main__":
    sys.exit(main())
