"""Sessions of onnxruntime: execution providers, the graphs of a bundle, and the best chunk."""
