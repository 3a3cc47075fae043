"""Helion kernels: their config specs as spaces, evaluated by Helion's own compiler and benchmark processes."""
