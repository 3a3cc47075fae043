"""The machine around a strategy: its plan, its requests to the shell, its events, its end and its result."""
