"""Constraint expressions: what may be written, and what it means, row by row and over columns. Nothing is ever run."""
