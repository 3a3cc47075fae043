"""Executables as kernels: a program is built with the flags of a config, run, and timed."""
