"""A classifier as an ONNX graph for a browser: weights in 8, 16 or 32 bits, arithmetic in float32.

Weights in 8 bits are whole numbers from -127 to 127. Each 64 of an output channel share a scale, which halves the error
of one scale per channel (Krishnamoorthi 2018, doi 10.48550/arXiv.1806.08342). The runtime multiplies them out when it
loads the graph.
"""

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from vggnb.device import keras
from vggnb.metrics.calibration import TOLERANCE, FeatureRanges
from vggnb.model import LAYERS
from vggnb.recipe import Recipe

OPSET, IR_VERSION = 17, 8  # of 2022: older runtimes read them, too
BLOCK = 64  # numbers that share a scale; it divides VGG-16's channels
SMALL = 100_000  # numbers: below, a tensor is stored in float32, which costs next to nothing


class _Graph:
    """Nodes and stored tensors; every node's output carries the node's name."""

    def __init__(self, weights: str):
        self.weights, self.nodes, self.tensors = weights, [], []

    def node(self, kind: str, name: str, *inputs: str | np.ndarray, **attributes) -> str:
        """Add a node and give the name of its output; an array among the inputs is stored in float32."""
        names = [one if isinstance(one, str) else self._stored(f"{name}_{k}", one) for k, one in enumerate(inputs)]
        self.nodes.append(helper.make_node(kind, names, [name], name, **attributes))
        return name

    def kernel(self, name: str, kernel: np.ndarray) -> str:
        """Store a kernel, output channels first, in the chosen width; give the name of its float32 values."""
        if self.weights == "float32" or kernel.size < SMALL:
            return self._stored(name, kernel)
        if self.weights == "float16":
            return self.node("Cast", name, self._stored(f"{name}_16", kernel, np.float16), to=TensorProto.FLOAT)
        rows = kernel.reshape(-1, BLOCK)
        scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True), np.float32(1e-30)) / np.float32(127)
        whole = self._stored(f"{name}_8", np.rint(rows / scale), np.int8)
        scaled = self.node("Mul", f"{name}_rows", self.node("Cast", f"{name}_cast", whole, to=TensorProto.FLOAT), scale)
        return self.node("Reshape", name, scaled, self._stored(f"{name}_shape", kernel.shape, np.int64))

    def _stored(self, name: str, array: np.ndarray, dtype: type = np.float32) -> str:
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype), name))
        return name


def classifier_graph(
    model: keras.Model, recipe: Recipe, ranges: FeatureRanges | None, *, weights: str = "int8"
) -> ModelProto:
    """A classifier as a graph: raw_rgb float32 (n, size, size, 3), 0 to 255 -> probabilities (n, classes), outside (n).

    `outside` is the share of features outside their range in training, 0 without ranges. `weights` tells how large
    kernels are stored: "int8", "float16" or "float32".
    """
    graph = _Graph(weights)
    features = _features(graph, model, recipe)
    x = features
    if recipe.hidden:
        x = graph.node("Relu", "hidden_relu", _dense(graph, model.get_layer("hidden"), x))
    graph.node("Softmax", "probabilities", _dense(graph, model.get_layer("probabilities"), x), axis=-1)
    _outside(graph, features, ranges)
    size, shapes = recipe.image_size, {"probabilities": ["n", model.output_shape[-1]], "outside": ["n"]}
    taken = helper.make_tensor_value_info("raw_rgb", TensorProto.FLOAT, ["n", size, size, 3])
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    whole = helper.make_graph(graph.nodes, "classifier", [taken], given, graph.tensors)
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(whole, opset_imports=[opset], ir_version=IR_VERSION, producer_name="vggnb")


def _features(graph: _Graph, model: keras.Model, recipe: Recipe) -> str:
    """From the pixels to what enters the head."""
    x = graph.node("Transpose", "channels_first", "raw_rgb", perm=[0, 3, 1, 2])
    if recipe.preprocessing == "rescale":
        x = graph.node("Mul", "preprocessing", x, np.array(model.get_layer("preprocessing").scale))
    else:
        x = _convolution(graph, model.get_layer("preprocessing"), x)
    ends, last = {}, max(block for block, _ in recipe.pools)
    for name, filters, block in (layer for layer in LAYERS if layer.block <= last):
        if filters:
            x = graph.node("Relu", f"{name}_relu", _convolution(graph, model.get_layer(name), x))
        else:
            x = ends[block] = graph.node("MaxPool", name, x, kernel_shape=[2, 2], strides=[2, 2])
    pools = []
    for block, kind in recipe.pools:
        pooling = {"average": "GlobalAveragePool", "max": "GlobalMaxPool"}[kind]
        pools.append(graph.node("Flatten", f"block{block}_{kind}", graph.node(pooling, f"{kind}_{block}", ends[block])))
    return graph.node("Concat", "features", *pools, axis=1)


def _convolution(graph: _Graph, layer: keras.layers.Layer, x: str) -> str:
    kernel, bias = layer.get_weights()
    stored = graph.kernel(f"{layer.name}_kernel", np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
    return graph.node("Conv", layer.name, x, stored, bias, pads=[kernel.shape[0] // 2] * 4)


def _dense(graph: _Graph, layer: keras.layers.Layer, x: str) -> str:
    kernel, bias = layer.get_weights()
    stored = graph.kernel(f"{layer.name}_kernel", np.ascontiguousarray(kernel.T))
    return graph.node("Gemm", f"{layer.name}_dense", x, stored, bias, transB=1)


def _outside(graph: _Graph, features: str, ranges: FeatureRanges | None) -> None:
    """As `metrics.calibration.share_outside`."""
    low, high = (ranges.low, ranges.high) if ranges else (np.float32(-np.inf), np.float32(np.inf))
    slack = TOLERANCE * (high - low) if ranges else np.float32(0)
    enough = graph.node("GreaterOrEqual", "enough", features, low - slack)
    inside = graph.node("And", "inside", enough, graph.node("LessOrEqual", "not_too_much", features, high + slack))
    missing = graph.node("Cast", "missing", graph.node("Not", "not_inside", inside), to=TensorProto.FLOAT)
    graph.node("ReduceMean", "outside", missing, axes=[1], keepdims=0)
