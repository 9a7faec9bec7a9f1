"""What a signal meets on its way from the scores down to the photo, read from autograd's own graph.

After a pass up, every operation that the signal will go through stands in the graph as a node,
however Python spelled it: as a module, a function, a method or a formula. Here each node between
the scores and the photo gets one of these kinds; :mod:`helpers.autograd.any_network` decides by
them.

==============  =================================================================================
``relu``        a ReLU that goes down by the method's rule
``pass``        linear, place by place: additions, views, batch normalisation, constant factors
``part``        a piece of a tensor: slices, splits
``pad``         constants around a tensor
``zeros``       zeros around a tensor
``mix``         linear across places: convolutions, matrices, poolings, concatenations, padding;
                maxima of different numbers
``reduce``      linear, to fewer places: means and sums, average pooling
``statistic``   a norm, a variance: what normalisations written by hand divide by
``normalise``   softmax, layer and group normalisation, attention
``product``     two factors that both depend on the photo: gates, attention
``squash``      sigmoid, hard sigmoid, tanh
``bend``        any other curve or corner, place by place
``activation``  what takes a ReLU's place: SiLU, GELU, leaky ReLU ...
``plain relu``  a ReLU of PyTorch's that does not go down by the rule
``opaque``      a step that autograd cannot look into: an ``autograd.Function``, TorchScript, C++
``unknown``     anything else
==============  =================================================================================
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping

import torch
from torch.autograd.graph import GradientEdge

from ..errors import ModelError

#: Kinds by the name of autograd's node, without "Backward" and what follows.
KINDS: dict[str, str] = {
    name: kind
    for kind, names in {
        "pass": """
            Add Sub Rsub Neg Clone Alias View UnsafeView ViewAs Reshape ReshapeAlias ReshapeCopy
            Copy ToCopy Permute Transpose T Squeeze Unsqueeze Expand Repeat Lift LiftFresh
            LazyClone ConjPhysical NativeBatchNorm CudnnBatchNorm MiopenBatchNorm
            NativeBatchNormLegit NativeBatchNormLegitNoTraining BatchNormNoUpdate
            BatchNormWithUpdate ToMkldnn ToDense MkldnnReshape
        """,
        "part": """
            Slice Select Split SplitWithSizes UnsafeSplit UnsafeSplitWithSizes Chunk Unbind Narrow
            NarrowCopy Diagonal
        """,
        "pad": "ConstantPadNd",
        "mix": """
            AccumulateGrad Cat Stack Index UnsafeIndex IndexSelect IndexAdd IndexCopy IndexPut
            IndexPutImpl IndexFill Gather Take Scatter ScatterAdd SelectScatter SliceScatter
            AsStrided Unfold Im2Col Col2Im ReflectionPad1D ReflectionPad2D ReflectionPad3D
            ReplicationPad1D ReplicationPad2D ReplicationPad3D UpsampleNearest1D UpsampleNearest2D
            UpsampleNearest3D UpsampleNearestExact1D UpsampleNearestExact2D UpsampleNearestExact3D
            UpsampleLinear1D UpsampleBilinear2D UpsampleBilinear2DAa UpsampleBicubic2D
            UpsampleBicubic2DAa UpsampleLanczos2DAa UpsampleTrilinear3D PixelShuffle
            PixelUnshuffle ChannelShuffle Roll Flip Rot90 Tril Triu Trace Cumsum FftR2C FftC2R
            FftC2C ViewAsReal ViewAsComplex NativeDropout FusedDropout MaxUnpool2D GridSampler2D
            GridSampler3D CudnnGridSampler
        """,
        "reduce": """
            Mean Sum AvgPool2D AvgPool3D AdaptiveAvgPool2D AdaptiveAvgPool3D
            MkldnnAdaptiveAvgPool2D
        """,
        "statistic": "Norm LinalgVectorNorm Var VarMean Std StdMean Logsumexp",
        "normalise": """
            Softmax SafeSoftmax LogSoftmax MaskedSoftmax NativeLayerNorm NativeGroupNorm
            FusedRmsNorm ScaledDotProductFlashAttention ScaledDotProductFlashAttentionForCpu
            ScaledDotProductEfficientAttention ScaledDotProductCudnnAttention
            ScaledDotProductFusedAttentionOverrideable CudnnAttention FlashAttention
            EfficientAttention
        """,
        "product": "Glu",
        "squash": "Sigmoid Hardsigmoid Tanh",
        "bend": """
            Abs Exp Exp2 Expm1 Log Log2 Log10 Log1P Pow Sqrt Rsqrt Reciprocal Erf Erfc Sin Cos
            Atan Clamp ClampMin ClampMax Threshold Hardtanh Maximum Minimum Fmax Fmin Where
            MaskedFill
        """,
        "activation": """
            Silu Gelu Elu Celu LeakyRelu RreluWithNoise PreluKernel Hardswish Mish Softplus
            LogSigmoid Softshrink Hardshrink
        """,
        "plain relu": "Relu",
    }.items()
    for name in names.split()
}  # fmt: skip

#: Nodes that multiply, with the places of their two factors among the node's inputs, and what they
#: are if only one of the factors depends on the photo.
FACTORS: dict[str, tuple[int, int, str]] = {
    **dict.fromkeys(["Mul", "Div"], (0, 1, "pass")),
    "Addcmul": (1, 2, "pass"), "Addcdiv": (1, 2, "pass"),
    **dict.fromkeys(["Mm", "Bmm", "Mv", "Dot", "Matmul", "Linear", "MkldnnLinear"], (0, 1, "mix")),
    **dict.fromkeys(["Addmm", "Baddbmm", "Addbmm", "Addmv", "Addr"], (1, 2, "mix")),
    **dict.fromkeys(
        """
        Convolution ConvolutionOverrideable CudnnConvolution CudnnConvolutionTranspose
        MiopenConvolution MiopenConvolutionTranspose MiopenDepthwiseConvolution
        MkldnnConvolution MpsConvolution MpsConvolutionTranspose NnpackSpatialConvolution
        ConvDepthwise2D ConvDepthwise3D SlowConv2D SlowConvDilated2D SlowConvTranspose2D
        """.split(),
        (0, 1, "mix"),
    ),
}  # fmt: skip

#: Nodes that pass the largest of several numbers, or order them: in windows, or anywhere.
POOLINGS = set(
    """
    MaxPool2D MaxPool2DWithIndices MaxPool3DWithIndices MkldnnMaxPool2D AdaptiveMaxPool2D
    AdaptiveMaxPool3D FractionalMaxPool2D
    """.split()
)
MAXIMA = POOLINGS | {"Max", "Amax", "Min", "Amin", "Topk", "Sort", "Kthvalue"}
#: Nodes whose output is >= 0; and those whose output is, if all of their inputs are.
POSITIVE = {"Relu", "Sigmoid", "Hardsigmoid", "Softmax", "Abs", "Exp"}
KEEP_SIGN = POOLINGS | set(
    """
    ConstantPadNd Cat Stack Clone View UnsafeView Reshape ReshapeAlias Permute Transpose Squeeze
    Unsqueeze Expand Repeat Slice Select Split AvgPool2D
    """.split()
)

#: Names for people, where autograd's own would puzzle them.
TITLES = {
    "Silu": "SiLU", "Gelu": "GELU", "Elu": "ELU or SELU", "Celu": "CELU",
    "LeakyRelu": "LeakyReLU", "RreluWithNoise": "RReLU", "PreluKernel": "PReLU",
    "Clamp": "clamp", "ClampMin": "clamp", "ClampMax": "clamp",
    "Abs": "abs", "Exp": "exp", "Log": "log", "Pow": "pow",
    "Sqrt": "sqrt", "Rsqrt": "rsqrt", "Div": "division", "Reciprocal": "reciprocal", "Erf": "erf",
    "CopySlices": "a change in place of a part of a tensor",
    "DifferentiableGraph": "TorchScript", "CompiledFunction": "compiled code",
    "Maximum": "maximum", "Max": "maximum", "Amax": "maximum", "Min": "minimum",
    "Amin": "minimum", "Minimum": "minimum", "Where": "where", "MaskedFill": "masked_fill",
    "Relu": "ReLU", "Sort": "sort", "Topk": "topk", "Kthvalue": "kthvalue",
    **dict.fromkeys(POOLINGS, "max-pooling with zeros or copies of the signal"),
}  # fmt: skip

#: Through these a signal goes place by place, so that a function made of them is a curve.
ELEMENTWISE = {"pass", "relu", "plain relu", "squash", "bend", "activation"}
REDUCTIONS = {"reduce", "statistic"}
KINDS_BELOW = {*KINDS.values(), "relu", "zeros", "opaque", "unknown"}


def node_name(node) -> str:
    """``ConvolutionBackward0`` is "Convolution", ``torch::autograd::CopySlices`` "CopySlices"."""
    return re.sub(r"Backwards?\d*(_copy)?$", "", node.name().rpartition("::")[2])


def title(node) -> str:
    name = node_name(node)
    return TITLES.get(name, name)


class SignalPath:
    """The nodes between ``scores`` and the photo ``leaf``, and what each of them does to a signal.

    Parameters
    ----------
    scores : torch.Tensor
        What the network answered.
    leaf : torch.Tensor
        The photo, a leaf that requires a gradient, from which ``scores`` were computed.
    known : mapping, optional
        Kinds of nodes that the graph alone does not tell: ReLUs that go down by the rule ("relu"),
        what is padded with zeros ("zeros"), or with what no maximum takes ("mix"),
        changes of a view in place ("CopySlices" for autograd) that are linear.

    Attributes
    ----------
    nodes : list
        From the photo up to the scores; empty if the scores do not depend on the photo.
    """

    def __init__(
        self, scores: torch.Tensor, leaf: torch.Tensor, known: Mapping[object, str] | None = None
    ) -> None:
        self._known = known or {}
        self.root = scores.grad_fn
        target = torch.autograd.graph.get_gradient_edge(leaf).node
        self.nodes, on_path = [], {target}
        for node in _children_first(self.root):
            if node is target or any(child in on_path for child, _ in node.next_functions):
                on_path.add(node)
                self.nodes.append(node)
        self._on_path = on_path if self.nodes else set()
        self._parents = defaultdict(list)
        for node in self.nodes:
            for child, _ in self.inputs(node):
                self._parents[child].append(node)
        self.kinds: dict[object, str] = {}
        #: Answers about edges, which a channel shuffle asks for by many ways.
        self._copied: dict[tuple, dict[tuple, int]] = {}
        self._positive: dict[tuple, bool] = {}
        for node in self.nodes:  # each behind its inputs, whose kinds it asks for
            self.kinds[node] = self._kind(node)
        #: Products that are functions of one signal, place by place: ``x * sigmoid(x)``; a gate is
        #: none. And those of them whose factors come to the signal by other ways than place by
        #: place.
        self.curves, self._detours = set(), set()
        for node in self.nodes:
            if self.kinds[node] == "product" and all(factors := self._factors(node)):
                if set.intersection(*factors):
                    self.curves.add(node)
                elif self._is_detour(node):
                    self.curves.add(node)
                    self._detours.add(node)

    def __contains__(self, node) -> bool:
        return node in self._on_path

    def hangs_on_photo(self, node) -> bool:
        """Was the node's output computed from the photo, on the way to the scores or not?"""
        return any(below in self for below in _children_first(node))

    def inputs(self, node, places=None) -> list[tuple]:
        """The inputs of ``node`` (all, or those at ``places``) that depend on the photo.

        Each is a pair, as autograd has it: a node, and which of its outputs.
        """
        edges = node.next_functions
        if places is not None:
            edges = [edges[place] for place in places if place < len(edges)]
        return [edge for edge in edges if edge[0] in self._on_path]

    def bottlenecks(self) -> set:
        """The nodes through which everything goes that the scores know of the photo.

        Of all ways from the scores to the photo each of these is on as many as there are.
        """
        below, above = Counter({self.nodes[0]: 1}), Counter({self.root: 1})
        for node in self.nodes[1:]:
            below[node] = sum(below[child] for child, _ in self.inputs(node))
        for node in reversed(self.nodes):
            for child, _ in self.inputs(node):
                above[child] += above[node]
        return {node for node in self.nodes if below[node] * above[node] == below[self.root]}

    def of_kind(self, *kinds: str) -> list:
        return [node for node in self.nodes if self.kinds[node] in kinds]

    def count(self, *kinds: str) -> Counter[str]:
        """How many nodes are of these kinds, by a name for people."""
        return Counter(title(node) for node in self.of_kind(*kinds))

    def _kind(self, node) -> str:
        name = node_name(node)
        if node in self._known:
            return self._known[node]
        if (
            name == "CopySlices"  # does not say what was done to the view
            or isinstance(node, torch.autograd.function.BackwardCFunction)
            or type(node).__name__ == "CppFunction"
        ):
            return "opaque"
        if name in FACTORS:
            first, second, otherwise = FACTORS[name]
            if len(self.inputs(node, (first, second))) == 2:
                return "product"
            return (
                "bend" if name in ("Div", "Addcdiv") and self.inputs(node, (second,)) else otherwise
            )
        if name in MAXIMA:
            return "bend" if self._compares_copies(node) else "mix"
        if name.startswith(("GridSampler", "CudnnGridSampler")) and self.inputs(node, (1,)):
            return "unknown"
        if _cuts_at_zero(node, name):
            return "plain relu"
        return KINDS.get(name, "unknown")

    def _compares_copies(self, node) -> bool:
        """Is a maximum one of two signals, of a signal and a constant, or of a signal and itself?

        Then it is an activation, written another way, and no pooling. It is, if it compares more
        numbers than were made: some of them stand there twice (scaled or shifted), or are
        constants (zeros around the signal).
        """
        (edge,) = self.inputs(node)
        if node_name(edge[0]) == "Stack" and node_name(node) not in POOLINGS:
            return True
        sources = self._made_of(edge)
        # a window lies in one channel: it does not matter how often each of them is there
        whole = node_name(node) in POOLINGS and all(
            shape_of(source)[-2:] == shape_of(edge)[-2:] for source in sources
        )
        return not whole and sum(sources.values()) < shape_of(edge).numel()

    def _made_of(self, edge) -> dict[tuple, int]:
        """Of how many numbers, by their edges, those at ``edge`` are copies, scaled or shifted."""
        if edge not in self._copied:
            self._copied[edge] = self._find_sources(edge)
        return self._copied[edge]

    def _find_sources(self, edge) -> dict[tuple, int]:
        node, count = edge[0], shape_of(edge).numel()
        below, name = set(self.inputs(node)), node_name(node)
        copies = self.kinds[node] in ("pass", "part", "pad", "zeros") and len(below) == 1
        if not copies and name not in ("Cat", "Stack") or self._pads_below_all(node):
            return {edge: count}
        sources: dict[tuple, int] = {}
        for one in below:
            sources |= self._made_of(one)
        return sources if sum(sources.values()) <= count else {edge: count}

    def _pads_below_all(self, node) -> bool:
        """Are these zeros around what is nowhere negative, so that no maximum takes them?"""
        return self.kinds[node] == "zeros" and all(map(self._is_positive, self.inputs(node)))

    def _is_positive(self, edge) -> bool:
        if edge not in self._positive:
            node, name = edge[0], node_name(edge[0])
            self._positive[edge] = (
                self.kinds.get(node) == "relu"
                or name in POSITIVE
                or name in KEEP_SIGN
                and all(map(self._is_positive, self.inputs(node)))
            )
        return self._positive[edge]

    def _is_detour(self, node) -> bool:
        """Are both factors of a product made of one and the same number each, in whatever way?

        A gate looks at many places or channels, or at another one. Asked of three places.
        """
        (first,), (second,) = (
            self.inputs(node, (place,)) for place in FACTORS[node_name(node)][:2]
        )
        common = self._everything_below(first) & self._everything_below(second)
        common -= {below for edge in common for below in self.inputs(edge[0])}
        if not common:
            return False
        shape, found = shape_of((node, 0)), False
        for quarter in (1, 2, 3):
            place = torch.unravel_index(torch.tensor(shape.numel() * quarter // 4), shape)
            reads = [_numbers_read(factor, place, list(common)) for factor in (first, second)]
            if all(reads):  # else a ReLU that is off has hidden it
                if reads[0] != reads[1] or len(reads[0]) > 1:
                    return False
                found = True
        return found

    def _everything_below(self, edge) -> set[tuple]:
        return self._below([edge], KINDS_BELOW)

    def _below(self, edges, through=ELEMENTWISE) -> set[tuple]:
        """``edges``, and everything that their values are computed from place by place."""
        seen, todo = set(), list(edges)
        while todo:
            edge = todo.pop()
            if edge not in seen:
                seen.add(edge)
                if self.kinds[edge[0]] in through or edge[0] in self.curves:
                    todo += self.inputs(edge[0])
        return seen

    def _factors(self, node) -> list[set]:
        """What each factor of a product place by place is made of; nothing for other products."""
        name = node_name(node)
        if name not in FACTORS or FACTORS[name][2] != "pass":
            return [set(), set()]
        return [self._below(self.inputs(node, (place,))) for place in FACTORS[name][:2]]

    def within(self, curve) -> set:
        """The nodes of a product's two factors, down to the signal that both are made of."""
        if curve in self._detours:
            first, second = (
                self._everything_below(edge)
                for edge in self.inputs(curve, FACTORS[node_name(curve)][:2])
            )
        else:
            first, second = self._factors(curve)
        return {inner for inner, _ in first ^ second}

    def ends_above(self, node, through) -> set:
        """The nodes at which the ways up through the kinds given end; None for the scores."""
        ends, seen, todo = set(), {node}, [node]
        while todo:
            node = todo.pop()
            if node is self.root:
                ends.add(None)
            for parent in self._parents[node]:
                if self.kinds[parent] not in through:
                    ends.add(parent)
                elif parent not in seen:
                    seen.add(parent)
                    todo.append(parent)
        return ends

    def ways_up(self, node, through) -> set[str]:
        """The kinds of :meth:`ends_above`; "scores" for the scores."""
        return {self.kinds.get(end, "scores") for end in self.ends_above(node, through)}

    def role(self, rectifier) -> str:
        """What a ReLU with a ceiling is: "relu", "gate" (a hard sigmoid by hand), or "unclear".

        ``g.add(3).relu6().div(6) * x`` is a gate: a constant is added, and all that is done with
        the result is to multiply another signal. Without the constant either may be the gate.
        """
        ends = self.ends_above(rectifier, {"pass"})
        factors = [
            factor
            for end in ends
            for factor in (self._factors(end) if self.kinds.get(end) == "product" else [set()])
        ]
        if not all(factors) or any(
            self.kinds[node] == "squash" for factor in factors for node, _ in factor
        ):
            return "relu"  # it feeds more than products; or the other factor is the gate
        below = self._below(self.inputs(rectifier), {"pass"})
        shifted = any(
            node_name(node) in ("Add", "Sub", "Rsub")
            and sum(child is not None for child, _ in node.next_functions) == 1
            for node, _ in below
        )
        return "gate" if shifted else "unclear"

    def sources(self, node) -> set[str]:
        """The kinds of the first nodes below ``node`` that do not work place by place."""
        through = {"pass", "bend", "squash"}
        kinds = {self.kinds[below] for below, _ in self._below(self.inputs(node), through)}
        return kinds - through

    def is_gate(self, node) -> bool:
        """Does ``node`` only scale other signals, or make the scores? Then it is no activation.

        A sigmoid does, if all its ways up lead into products. Other curves do, if they belong to a
        statistic of the signal: ``x / x.pow(2).mean().sqrt()``.
        """
        along = {"pass", "part", "pad", "zeros", "squash", "bend"}
        kind = self.kinds[node]
        if kind == "squash":
            return self.ways_up(node, along) <= {"product", "scores"}
        if (
            kind == "bend"
            and node_name(node) == "MaskedFill"
            and self.ways_up(node, {"pass"}) <= {"normalise"}
        ):
            return True  # an attention's mask
        statistic = (
            kind == "statistic"
            or self.sources(node) <= REDUCTIONS
            or self.ways_up(node, along) <= REDUCTIONS
        )
        return statistic and self.ways_up(node, along | REDUCTIONS) <= {"product"}

    def others(self) -> Counter[str]:
        """How often the signal is bent by what is no ReLU, no pooling and no gate, by name."""
        found: Counter[str] = Counter()
        inner = set().union(*(self.within(curve) for curve in self.curves))
        for node in self.nodes:
            kind = self.kinds[node]
            if node in self.curves:
                if not self.is_gate(node):
                    found["a signal times a function of itself"] += 1
            elif kind in ("activation", "unknown") or (
                kind in ("squash", "bend", "statistic")
                and node not in inner
                and not self.is_gate(node)
            ):
                found[title(node)] += 1
        return found


def path_down(scores, leaf, name: str, known: Mapping[object, str] | None = None) -> SignalPath:
    """The :class:`SignalPath` from ``scores`` to ``leaf``.

    A ``ModelError`` if there is none, or none that autograd can walk.
    """
    path = SignalPath(scores, leaf, known)
    if not path.nodes:
        raise ModelError(
            f"The scores of {name} do not depend on the photo, as far as autograd sees: a part of "
            "it runs under torch.no_grad() or on detached tensors. Explain it without; frozen "
            "parameters (requires_grad=False) do no harm."
        )
    if any(node_name(node) == "CheckpointFunction" for node in path.nodes):
        raise ModelError(
            f"{name} checkpoints parts with use_reentrant=True, which computes gradients for whole "
            "passes only. Switch checkpointing off to explain it, or use use_reentrant=False for "
            "the gradient and Grad-CAM."
        )
    return path


def shape_of(edge) -> torch.Size:
    """The shape of what was computed at an edge of the graph: a node, and which of its outputs."""
    node, place = edge
    return torch.Size(node._input_metadata[place].shape)


def _numbers_read(factor, place, sources: list[tuple]) -> list[tuple[int, ...]]:
    """Which numbers at ``sources`` the one at ``place`` of a factor, broadcast, depends on.

    Two of each source at most: more than one is all that is asked.
    """
    like = factor[0]._input_metadata[factor[1]]
    one = torch.zeros(shape_of(factor), dtype=like.dtype, device=like.device)
    place = place[len(place) - one.ndim :]
    one[tuple(0 if side == 1 else int(at) for at, side in zip(place, one.shape, strict=True))] = 1
    try:
        gradients = torch.autograd.grad(
            [GradientEdge(*factor)],
            [GradientEdge(*source) for source in sources],
            [one],
            retain_graph=True,
            allow_unused=True,
        )
    except RuntimeError:  # the way down will meet it again, and say so
        return []
    return [
        (number, *index)
        for number, gradient in enumerate(gradients)
        if gradient is not None
        for index in gradient.nonzero()[:2].tolist()
    ]


def _children_first(root) -> list:
    """Every node that can be reached from ``root``, each behind all of its inputs."""
    order, seen, todo = [], {None}, [(root, False)]
    while todo:
        node, finished = todo.pop()
        if finished:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            todo.append((node, True))
            todo += [(child, False) for child, _ in node.next_functions]
    return order


def _cuts_at_zero(node, name: str) -> bool:
    """Is it a ReLU by another name: a clamp at 0, a threshold of 0?"""
    saved = {
        "Clamp": "_saved_min",
        "ClampMin": "_saved_min",
        "Hardtanh": "_saved_min_val",
        "Threshold": "_saved_threshold",
    }
    if name not in saved:
        return False
    bound = getattr(node, saved[name], None)
    return bound is not None and bool((torch.as_tensor(bound) == 0).all())
