"""Kinds of kernels, one folder each: how their configs are compiled, checked and timed."""
