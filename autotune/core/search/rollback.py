"""What a resume takes back: the hurried end that an interrupt put into a journal."""

from collections.abc import Iterable

from autotune.core.search.messages import Event, Interrupted, Resumed


def effective(events: Iterable[Event]) -> list[Event]:
    """What counts for a process that resumes from these events: all but each interrupt and what followed it.

    Folding these gives the same search as folding them all and a `Resumed`: `advance` takes back in the same way.
    """
    kept: list[Event] = []
    interrupted: int | None = None
    for event in events:
        if isinstance(event, Resumed):
            kept, interrupted = kept[:interrupted], None
            continue
        if isinstance(event, Interrupted) and interrupted is None:
            interrupted = len(kept)
        kept.append(event)
    return kept[:interrupted]
