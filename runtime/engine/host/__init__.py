"""The engine whose steps are computed in NumPy, around sessions of onnxruntime."""
