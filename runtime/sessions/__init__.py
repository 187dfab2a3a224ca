"""Sessions of onnxruntime: `open` opens graphs of a bundle on `providers`, `run` runs them."""
