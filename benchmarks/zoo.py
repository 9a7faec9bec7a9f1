"""The three rules and Grad-CAM in every network of torchvision and some of timm, and a reference.

    pip install -r benchmarks/requirements.txt
    python -m benchmarks.zoo                      # writes helpers/assets/zoo.json
    python -m benchmarks.zoo resnet18 timm:resnest14d

It goes on where it was stopped: ``--again`` asks also those that the table has.

Random parameters (seeded), small photos of noise, float64. The reference leaves the network's ReLUs
alone and changes the signal at their nodes in autograd's graph, by hooks on these nodes; for
Grad-CAM it retains the gradient at the layer. The table says for each network whether
``saliency_any`` takes it, or why not, and the largest difference from the reference, divided by
the reference's largest value. A network that is refused is compared with ``strict=False``.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import re
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import torch
import torchvision
from torch import nn

from helpers import METHODS, ModelError, grad_cam_any, saliency_any

TIMM = """
    resnet18d resnetblur18 seresnet50 skresnet18 ecaresnet26t resnest14d cspresnet50
    cspdarknet53 dla34 res2net50_14w_8s resnetv2_50 resnet50_gn nf_resnet50 vovnet39a
    hrnet_w18_small selecsls42b repvgg_a0 ghostnet_100 mixnet_s mobilenetv3_small_100 lcnet_050
    tf_efficientnet_lite0 tinynet_e xception41 inception_v4 dpn68 levit_128s efficientvit_m0
    coatnet_nano_rw_224 botnet26t_256 vit_tiny_patch16_224 convnext_atto starnet_s1
""".split()
#: Where 64 pixels do not do.
SIZES = {
    "inception_v3": 80, "alexnet": 80, "vit_h_14": 56, "maxvit_t": 224, "timm:inception_v4": 96,
    "timm:levit_128s": 224, "timm:efficientvit_m0": 224, "timm:coatnet_nano_rw_224": 224,
    "timm:botnet26t_256": 256, "timm:vit_tiny_patch16_224": 224,
}  # fmt: skip
CLASSES = [3, 5]


def make(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A network with seeded random parameters, float64, in eval mode; and two photos."""
    torch.manual_seed(0)
    size = SIZES.get(name, 64)
    torch.set_default_dtype(torch.float64)  # made so, and not converted: the largest take 5 GB
    try:
        if name.startswith("timm:"):
            import timm

            network = timm.create_model(name.removeprefix("timm:"), num_classes=10)
        else:
            more = {}
            if name.startswith("vit_"):
                more = {"image_size": size}
            elif name in ("googlenet", "inception_v3"):  # their own initialisation takes a minute
                more = {"init_weights": False, "aux_logits": False}
            network = torchvision.models.get_model(name, weights=None, num_classes=10, **more)
    finally:
        torch.set_default_dtype(torch.float32)
    return randomise(network.eval()).double(), torch.randn(2, 3, size, size, dtype=torch.float64)


@torch.no_grad()
def randomise(network: nn.Module) -> nn.Module:
    """Parameters that keep signals alive through all layers, and statistics as after training."""
    for name, p in network.named_parameters():
        if p.ndim > 1:
            p.normal_(0, math.sqrt(2 / p[0].numel()))
        elif name.endswith("bias"):
            p.normal_(0, 0.1)
        else:
            p.uniform_(0.5, 1.5)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.5)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return network


def relu_nodes(root) -> list:
    """The nodes of ReLU and ReLU6 in the graph below ``root``."""
    found, seen, todo = [], set(), [root]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        todo += [below for below, _ in node.next_functions]
        name = node.name()
        if (
            name.startswith("ReluBackward")
            or (name.startswith("HardtanhBackward") and node._saved_min_val == 0)
            or (name.startswith("ClampMinBackward0") and node._saved_min == 0)
        ):
            found.append(node)
    return found


def reference(network: nn.Module, x: torch.Tensor, method: str) -> tuple[torch.Tensor, int]:
    """The map by hooks on the graph's nodes, and how many ReLUs the signal went through."""
    leaf = x.clone().requires_grad_()
    score = network(leaf.clone())[range(len(x)), CLASSES].sum()
    met = Counter()

    # neither hook may hold its node, which would hold the hook: such a ring is never let go
    def before(signals):
        met["ReLU"] += 1
        return None if method == "gradient" else tuple(s.clamp(min=0) for s in signals)

    def behind(results, signals):  # what the hook before has let through, without the node's mask
        return (signals[0], *results[1:])

    for node in relu_nodes(score.grad_fn):
        node.register_prehook(before)
        if method == "deconvnet":
            node.register_hook(behind)
    (result,) = torch.autograd.grad(score, leaf)
    return result, met["ReLU"]


def last_maps(network: nn.Module, x: torch.Tensor) -> tuple[str, nn.Module] | None:
    """The last module that gives maps ``(N, C, h, w)``, called once, with more than one place."""
    called, handles = [], []
    for name, module in network.named_modules():
        handles.append(
            module.register_forward_hook(
                lambda module, inputs, output, name=name: called.append((name, module, output))
            )
        )
    with torch.no_grad():
        network(x)
    for handle in handles:
        handle.remove()
    names = [name for name, _, _ in called]
    for name, module, output in reversed(called):
        if isinstance(output, torch.Tensor) and output.ndim == 4 and names.count(name) == 1:
            _, c, h, w = output.shape
            if h == w > 1 and not (c == h != w) and len(output) == len(x):
                return name, module
    return None


def reference_cam(
    network: nn.Module, x: torch.Tensor, layer: nn.Module
) -> tuple[torch.Tensor, ...]:
    """Grad-CAM's maps and weights from the gradient that the layer's output retains."""
    kept = []

    def keep(module, inputs, output):
        output.retain_grad()
        kept.append(output)
        return output.clone()

    handle = layer.register_forward_hook(keep)
    leaf = x.clone().requires_grad_()
    network(leaf.clone())[range(len(x)), CLASSES].sum().backward(inputs=[leaf])
    handle.remove()
    weights = kept[0].grad.mean(dim=(2, 3))
    maps = (weights[:, :, None, None] * kept[0].detach()).sum(dim=1).clamp(min=0)
    return maps, weights


def difference(got: torch.Tensor, want: torch.Tensor) -> float:
    """The largest difference by the largest value, two digits."""
    return float(f"{float((got - want).abs().max() / want.abs().max()):.1e}")


def ask(name: str) -> dict:
    """One row of the table."""
    network, x = make(name)
    row = {
        "network": name,
        "parameters": sum(p.numel() for p in network.parameters()),
        "size": x.shape[-1],
    }
    maps, row["difference"] = {}, {}
    try:
        maps["guided"] = saliency_any(network, x, CLASSES, "guided")
        row |= {"answer": "ok", "why": ""}
    except ModelError as error:
        row |= {"answer": "refused", "why": str(error)}
    for method in METHODS:
        try:
            got = maps.get(method)
            got = saliency_any(network, x, CLASSES, method, strict=False) if got is None else got
        except ModelError:  # not even so
            row["difference"][method] = None
            continue
        want, row["relus"] = reference(network, x, method)
        row["difference"][method] = difference(got, want)
    layer = last_maps(network, x)
    if layer is None:
        return row | {"layer": None}
    want = reference_cam(network, x, layer[1])
    try:
        got = grad_cam_any(network, x, layer[1], CLASSES)
        # the weights, too: where nothing speaks for the class, all maps are zero
        pairs = [(g, w) for g, w in zip(got[:2], want, strict=True) if w.any()]
        row["difference"]["Grad-CAM"] = max(difference(g, w) for g, w in pairs)
    except ModelError as error:
        row["difference"]["Grad-CAM"] = str(error)
    return row | {"layer": layer[0]}


def ask_in_a_process(name: str) -> dict:
    """:func:`ask`, with all of its memory given back; a failure is a row as well."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=_send, args=(name, sender))
    process.start()
    sender.close()
    try:
        row = receiver.recv()
    except EOFError:
        row = {"network": name, "answer": "failed", "why": "the process ended, for want of memory?"}
    process.join()
    return row


def _send(name: str, sender) -> None:
    try:
        sender.send(ask(name))
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        sender.send({"network": name, "answer": "failed", "why": why})


def because(why: str) -> str:
    """What a refusal names, without the numbers: "SiLU and GELU"."""
    names = re.findall(r"([^,:]+?) \((?:once|\d+ times)\)", why)
    return " and ".join(re.sub("^ *(but )?(also )?", "", name) for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "names", nargs="*", help="networks of torchvision, or timm:NAME (default: all)"
    )
    parser.add_argument("--again", action="store_true", help="also those that the table has")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[1] / "helpers/assets/zoo.json"
    )
    args = parser.parse_args()
    everything = torchvision.models.list_models(module=torchvision.models) + [
        f"timm:{name}" for name in TIMM
    ]
    table = {"versions": {}, "command": "python -m benchmarks.zoo", "rows": []}
    if args.out.exists():
        table = json.loads(args.out.read_text())
    table["versions"] = {package: version(package) for package in ("torch", "torchvision", "timm")}
    rows = {row["network"]: row for row in table["rows"]}
    for name in args.names or everything:
        if name in rows and not args.again:
            continue
        start = time.perf_counter()
        rows[name] = row = ask_in_a_process(name)
        row["because"] = because(row["why"])
        print(
            f"{name}: {row['answer']}, {row.get('difference')}, "
            f"{time.perf_counter() - start:.0f} s {row['why']}",
            flush=True,
        )
        order = {known: place for place, known in enumerate(everything)}
        table["rows"] = sorted(rows.values(), key=lambda row: order.get(row["network"], len(order)))
        lines = ",\n".join("  " + json.dumps(row) for row in table["rows"])
        head = json.dumps({key: value for key, value in table.items() if key != "rows"}, indent=1)
        args.out.write_text(head.removesuffix("\n}") + ',\n "rows": [\n' + lines + "\n ]\n}\n")


if __name__ == "__main__":
    main()
