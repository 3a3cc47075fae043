"""Kernels as their config fields describe them: the fields, and the space over them for a kernel described in short."""
