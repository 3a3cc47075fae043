"""The exit codes of every command, as docs/command-line.md lists them."""

DONE = 0
ERROR = 1
"""Something that the user can put right: one sentence on stderr says what, where and how."""
USAGE = 2
"""An unknown option, a missing argument."""
NOTHING_TIMED = 3
"""The search ended without one config that could be timed."""
DIVERGED = 4
"""A replay that decided otherwise than its journal."""
INTERRUPTED = 130
"""Ctrl-C (or SIGTERM): after one, the best so far was printed all the same."""
PIPE_CLOSED = 141
"""Whoever read our output went away, as `head` does."""
