"""Tables of operators by their effect on the places of a tensor: ONNX's own, and onnxruntime's fused ones."""

from typing import NamedTuple


class Spatial(NamedTuple):
    """The kind of an operator that slides over the picture: with weights or without, and where its channels are."""

    weighted: bool = False
    channels_last: bool = False


SPATIAL = {
    **dict.fromkeys(("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "FusedConv", "DeformConv"), Spatial(True)),
    **dict.fromkeys(("NhwcConv", "NhwcFusedConv"), Spatial(True, True)),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool", "QLinearAveragePool", "Resize", "Upsample"), Spatial()),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "QLinearGlobalAveragePool"), Spatial()),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth", "MaxUnpool", "GridSample"), Spatial()),
    "NhwcMaxPool": Spatial(channels_last=True),
}

# Products of matrices, and which inputs are the left and the right one.
PRODUCTS = {
    **dict.fromkeys(("MatMul", "Gemm", "MatMulInteger", "FusedMatMul", "FusedGemm", "MatMulIntegerToFloat"), (0, 1)),
    **dict.fromkeys(("DynamicQuantizeMatMul", "GemmFastGelu", "MatMulBnb4", "MatMulNBits", "GemmFloat8"), (0, 1)),
    **dict.fromkeys(("QLinearMatMul", "QGemm"), (0, 3)),
    "TransposeMatMul": (0, 1),
}

# Their first input holds the queries, or everything.
ATTENTION = ("Attention", "MultiHeadAttention", "QAttention", "PackedAttention", "GroupQueryAttention")

# They move elements: the inputs that hold these; an empty tuple means all.
MOVEMENT: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Transpose", "Slice", "Split", "Gather", "GatherND", "GatherElements", "Pad", "Tile"), (0,)),
    **dict.fromkeys(("Compress", "Trilu", "ReverseSequence", "CenterCropPad"), (0,)),
    **dict.fromkeys(("ScatterND", "ScatterElements"), (0, 2)),
    "Concat": (),
    "QLinearConcat": (),
}
VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Identity", "Dropout")

# A tensor before one of these is left to the operator, which acts on each element by itself.
ACTIVATIONS = (
    *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Clip", "Sigmoid", "HardSigmoid"),
    *("HardSwish", "Tanh", "Gelu", "Swish", "Mish", "Softplus", "Softsign", "QuickGelu", "FastGelu", "BiasGelu"),
    *("BatchNormalization", "InstanceNormalization", "GroupNormalization"),
)
NORMALIZATIONS = (
    *("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"),
    *("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"),
)
# An output element depends on the elements of its place only, or, in normalisations, on those along their axes.
POINTWISE = (
    *ACTIVATIONS[:-2],
    *NORMALIZATIONS,
    *("Softmax", "LogSoftmax", "LpNormalization"),
    *("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Reciprocal", "Exp", "Log", "Neg", "Abs", "Sign", "Erf", "Sin", "Cos"),
    *("Min", "Max", "Sum", "Mean", "Where", "Cast", "CastLike", "Identity", "Dropout", "Floor", "Ceil", "Round"),
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearAdd", "QLinearMul", "QLinearSigmoid"),
    *("QLinearLeakyRelu", "BiasAdd", "BiasSplitGelu"),
)

# Operators with trained weights, and those that multiply two tensors alike.
WEIGHTED = (
    *(name for name, kind in SPATIAL.items() if kind.weighted),
    *(*PRODUCTS, "Einsum", *ATTENTION, "RNN", "GRU", "LSTM"),
)
