"""The machine around a strategy: what it asks of the shell, what can happen to it, how it begins, goes on and ends."""
