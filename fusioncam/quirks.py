"""What onnxruntime gets wrong, for both stages to go round it."""

# Ends the process on the attention of some float16 models (seen with onnxruntime 1.31 on the CPU).
CRASHING_OPTIMIZERS = ("MatmulTransposeFusion",)
