"""Guided Grad-CAM by several implementations, side by side in one run.

    pip install -r benchmarks/requirements.txt
    python -m benchmarks.compare                  # writes helpers/assets/benchmarks.json

VGG-16 at 224 pixels with random parameters: time does not depend on what a network has learnt.
Every contender is told the class. They take turns, round after round, so that whatever else the
machine does meets all of them; a ratio is taken within a round, and the median of the rounds is
reported. Times of different runs, or machines, are not comparable; ratios are, roughly.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchvision
from matplotlib import colormaps
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from helpers import (
    GuidedBackprop,
    cam_from_gradient,
    guided_gradcam,
    guided_gradcam_each,
    resize_maps,
)

SIZE = 224


def vgg16(device: str) -> nn.Module:
    """torchvision's VGG-16 with seeded random parameters that keep signals alive."""
    with torch.device("meta"):  # its own initialisation takes half a minute
        network = torchvision.models.vgg16(weights=None, init_weights=False)
    network = network.to_empty(device=device).eval()
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=generator)
                module.bias.zero_()
    return network


def not_in_place(network: nn.Module) -> nn.Module:
    """What libraries that hook modules ask for, or once did; parameters are shared."""
    network = copy.deepcopy(network, {id(one): one for one in network.parameters()})
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return network


# Each of these takes a network and returns a function of photos (N, 3, H, W) and classes (N,).


def ours(network):
    walk = GuidedBackprop(network)
    return lambda x, classes: guided_gradcam(walk, x, classes).maps


def ours_from_scratch(network):
    """The walk is made anew, and compared with the network, at every call."""
    return lambda x, classes: guided_gradcam(network, x, classes).maps


def ours_bfloat16(network):
    walk = GuidedBackprop(copy.deepcopy(network).bfloat16())
    return lambda x, classes: guided_gradcam(walk, x.bfloat16(), classes).maps


def floor(network):
    """One pass up and one input gradient by autograd: whatever reaches the pixels needs these."""

    def explain(x, classes):
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(network(leaf).gather(1, classes[:, None]).sum(), leaf)[0]

    return explain


def captum(network):
    from captum.attr import GuidedGradCam

    network = not_in_place(network)
    method = GuidedGradCam(network, network.features[-1])
    return lambda x, classes: method.attribute(x, target=classes, interpolate_mode="bilinear")


def pytorch_grad_cam(network):
    from pytorch_grad_cam import GradCAM, GuidedBackpropReLUModel
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = not_in_place(network)  # it exchanges the modules
    cam, guided = GradCAM(network, [network.features[-1]]), GuidedBackpropReLUModel(network)

    def explain(x, classes):
        maps = cam(x, [ClassifierOutputTarget(c) for c in classes.tolist()])
        # its guided backpropagation takes one photo at a time
        return np.stack(
            [
                m[..., None] * guided(photo[None].clone(), c)
                for m, photo, c in zip(maps, x, classes.tolist(), strict=True)
            ]
        )

    return explain


def post(network):
    """The blog post's way: a network a method, a graph of each, colours pixel by pixel.

    As there, the guided map comes from all of the last feature maps, and not from the class.
    """
    features, jet = copy.deepcopy(network.features), colormaps["jet"]

    def guided(x):
        switches, masks = [], []
        for layer in features:
            if isinstance(layer, nn.Conv2d):
                x = F.relu(layer(x))
                masks.append(torch.sign(x))
            elif isinstance(layer, nn.MaxPool2d):
                x, places = F.max_pool2d(x, 2, return_indices=True)
                switches.append(places)
        for layer in reversed(features):
            if isinstance(layer, nn.Conv2d):
                x = F.conv_transpose2d(F.relu(masks.pop() * x), layer.weight, padding=1)
            elif isinstance(layer, nn.MaxPool2d):
                x = F.max_unpool2d(x, switches.pop(), 2)
        return x

    def explain(x, classes):
        network.zero_grad()
        below = network.features(x).clone().detach().requires_grad_()
        scores = network.classifier(network.avgpool(below).flatten(1))
        scores.gather(1, classes[:, None]).sum().backward()
        maps, _ = cam_from_gradient(below.detach(), below.grad)
        maps = resize_maps(maps, x.shape[-2:])
        colours = [
            [[jet(float(value)) for value in row] for row in one / (one.max() + 1e-9)]
            for one in maps.cpu().numpy()
        ]
        return (maps[:, None] * guided(x)).detach(), colours

    return explain


CONTENDERS = {
    "floor": floor,
    "ours": ours,
    "ours, from scratch": ours_from_scratch,
    "ours, bfloat16": ours_bfloat16,
    "captum": captum,
    "pytorch-grad-cam": pytorch_grad_cam,
    "the post's way": post,
}


def photos(n: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """``(n, 3, SIZE, SIZE)`` and a class for each."""
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, 3, SIZE, SIZE, generator=generator).to(device), torch.arange(
        n, device=device
    ) * 7 % 1000


def seconds(call) -> float:
    """How long one call takes, until the device has finished."""
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def rounds(calls: dict, count: int, note: str) -> dict:
    """Let the calls take turns; per call the medians of seconds and of the ratio to "ours"."""
    if count > 5:  # the first call is slower, which hardly matters to a long one
        for call in calls.values():
            call()
    times = {name: [] for name in calls}
    for _ in tqdm(range(count), desc=note, leave=False):
        for name, call in calls.items():
            times[name].append(seconds(call))
    return {
        name: {
            "seconds": round(statistics.median(values), 4),
            "times ours": round(
                statistics.median(v / o for v, o in zip(values, times["ours"], strict=True)), 3
            ),
        }
        for name, values in times.items()
    }


def peak_memory(name: str, batch: int, device: str) -> float:
    """MiB that one explanation takes beyond the loaded network, in a process of its own."""
    asked = f"measure_memory({name!r}, {batch}, {device!r})"
    code = f"from benchmarks.compare import measure_memory; {asked}"
    return float(
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout.split()[-1]
    )


def measure_memory(name: str, batch: int, device: str) -> None:
    network = vgg16(device)
    call, (x, classes) = CONTENDERS[name](network), photos(batch, device)
    with torch.no_grad():
        network.features(x[:1, :, :64, :64])  # libraries load what they need
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call(x, classes)
        print((torch.cuda.max_memory_allocated() - before) / 2**20)
    else:
        Path("/proc/self/clear_refs").write_text(
            "5"
        )  # Linux: forget the peak so far (loading the network)
        before = status("VmRSS")
        call(x, classes)
        print(status("VmHWM") - before)


def status(key: str) -> float:
    """A size from Linux's account of this process, in MiB."""
    (line,) = [
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(key + ":")
    ]
    return int(line.split()[1]) / 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8, 32])
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 2, 5, 10])
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[1] / "helpers/assets/benchmarks.json"
    )
    args = parser.parse_args()

    network = vgg16(args.device)
    made = {name: make(network) for name, make in CONTENDERS.items()}
    x, classes = photos(1, args.device)
    report = {
        "machine": machine(args.device),
        "command": "python -m benchmarks.compare",
        "rounds": args.rounds,
    }

    report["one photo"] = rounds(
        {name: lambda call=call: call(x, classes) for name, call in made.items()},
        args.rounds,
        "one photo",
    )

    report["batches"] = {}
    for n in args.batches:
        xs, cs = photos(n, args.device)
        names = ["floor", "ours", "captum"]
        calls = {name: partial(made[name], xs, cs) for name in names}
        report["batches"][n] = rounds(calls, args.rounds if n < 8 else 5, f"{n} photos")

    walk = GuidedBackprop(network)
    report["classes"] = {}
    for k in args.classes:
        many, repeated = torch.arange(k, device=args.device) * 7 % 1000, x.expand(k, -1, -1, -1)
        calls = {
            "ours": lambda many=many: guided_gradcam_each(walk, x, many),
            "captum": lambda many=many, repeated=repeated: made["captum"](repeated, many),
        }
        report["classes"][k] = rounds(calls, args.rounds if k < 5 else 5, f"{k} classes")

    report["peak MiB"] = {
        name: {n: round(peak_memory(name, n, args.device)) for n in (1, 8)}
        for name in tqdm(CONTENDERS, desc="memory", leave=False)
        if name != "ours, from scratch"
    }

    exact = made["ours"](x, classes)
    rough = made["ours, bfloat16"](x, classes).float()
    report["bfloat16"] = {
        "largest error by largest value": round(
            float((rough - exact).abs().max() / exact.abs().max()), 4
        ),
        "correlation": round(
            float(torch.corrcoef(torch.stack([exact.flatten(), rough.flatten()]))[0, 1]), 5
        ),
    }
    # in float32 a switch or a mask may turn where two values agree to rounding; float64 says whose
    double = captum(copy.deepcopy(network).double())(x.double(), classes)
    report["error against float64, relative norm"] = {
        name: float(
            f"{float((made[name](x, classes).detach() - double).norm() / double.norm()):.1e}"
        )
        for name in ("ours", "captum")
    }

    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def machine(device: str) -> dict:
    """What the ratios were measured on."""
    if device == "cuda":
        name = torch.cuda.get_device_name()
    else:
        cpu = [
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ]
        name = f"{cpu[0] if cpu else platform.processor()}, {torch.get_num_threads()} threads"
    from importlib.metadata import version

    return {"device": name, "python": platform.python_version()} | {
        p: version(p) for p in ("torch", "torchvision", "captum", "grad-cam")
    }


if __name__ == "__main__":
    main()
