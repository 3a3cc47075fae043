"""What turns trials into outcomes: a simulated device, any Python function."""
