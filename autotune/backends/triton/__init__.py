"""Triton kernels: compiled side by side without the GPU, pruned, checked and timed in one process a GPU."""
