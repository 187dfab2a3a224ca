"""The engine whose steps are computed by CUDA kernels, on a GPU."""
