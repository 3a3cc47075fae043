"""What a resume takes back: the hurried end that an interrupt put into a journal."""

from collections.abc import Iterable

from autotune.core.search.messages import Event, Interrupted, Resumed


def effective(events: Iterable[Event]) -> list[Event]:
    """The events less every interrupt with all that followed it, up to the resume that took it back.

    Folding these gives the same search as folding them all, for `advance` takes an interrupt back in the same way.
    """
    kept: list[Event] = []
    interrupted: int | None = None
    for event in events:
        if isinstance(event, Interrupted) and interrupted is None:
            interrupted = len(kept)
        if isinstance(event, Resumed):
            if interrupted is not None:
                del kept[interrupted:]
                interrupted = None
            continue
        kept.append(event)
    return kept
