"""Evaluators turn trials into outcomes: a simulated device, any Python function."""
