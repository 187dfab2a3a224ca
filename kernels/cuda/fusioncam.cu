// All kernels, as one binary.
#include "fuse.cu"
#include "masks.cu"
#include "overlay.cu"
#include "reduce.cu"
