"""The processes of one session: compile workers and one process a GPU, each crew forked from a nursery of its own."""

import os
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from autotune.core.errors import EvaluatorError
from autotune.shell.evaluators import starting
from autotune.shell.evaluators.triton import session_cache, wire
from autotune.shell.evaluators.triton.limits import gpu_for
from autotune.shell.evaluators.triton.nursery import Nursery
from autotune.shell.evaluators.worker import Lost, Worker
from autotune.shell.evaluators.workers import Crew, wait_for
from autotune.shell.turn import Turn

TritonWorker = Worker[wire.Reply]
News = list[tuple[TritonWorker, wire.Reply | Lost]]

_COMPILE = "autotune.shell.evaluators.triton.compile_main:run"
_GPU = "autotune.shell.evaluators.triton.gpu_main:run"
TURN_S = 0.01
LOADING_S = 0.03
"""How often to look whether a nursery has loaded."""
_SETTING_UP = "`arguments` and `reference`"


class Layout(NamedTuple):
    """device: "cuda" or "interpreter". target: what to compile for, None: not known before the GPU's process says it.

    visible: the GPUs, as CUDA_VISIBLE_DEVICES names them.
    """

    device: str
    target: str | None
    visible: tuple[str, ...]
    compile_workers: int


class Nurseries:
    """The processes from which workers are forked. They take seconds to load, so they come first.

    payloads: what those that compile and those that measure load; None: there are none such. device: "cuda" or
    "interpreter". cache_dir: Triton's cache; None: Triton's own. lasting: whether all that is compiled stays there.
    """

    def __init__(
        self,
        compile_payload: bytes | None,
        gpu_payload: bytes | None,
        device: str,
        cache_dir: str | None,
        lasting: bool = False,
    ) -> None:
        self._device = device
        self._lasting = session_cache.lasting_cache(cache_dir)
        self._cached = {} if cache_dir is None else {"TRITON_CACHE_DIR": self._lasting}
        self._all_lasts = lasting
        self.compiling = self.measuring = None
        try:
            if compile_payload is not None:
                self.compiling = self._nursery(compile_payload, _COMPILE, compiling=True)
            if gpu_payload is not None:
                self.measuring = self._nursery(gpu_payload, _GPU, compiling=False)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End them; their workers must have been ended before."""
        for nursery in (self.compiling, self.measuring):
            if nursery is not None:
                nursery.close()

    def keep(self, keys: Iterable[str]) -> None:
        """Let these kernels outlast the session, in Triton's cache. To be called before `close`."""
        if session_cache.LASTING in self._cached:
            session_cache.keep(self._cached["TRITON_CACHE_DIR"], self._lasting, keys)

    def _nursery(self, payload: bytes, main: str, compiling: bool) -> Nursery:
        scratch = starting.scratch_folder()
        if compiling and not self._all_lasts:  # whoever ends these processes removes the folder
            self._cached |= session_cache.environment(os.path.join(scratch, "triton"), self._lasting)
        try:
            return Nursery(payload, main, self._environment(scratch, compiling), scratch)
        except BaseException:
            os.rmdir(scratch)
            raise

    def _environment(self, scratch: str, compiling: bool) -> dict[str, str]:
        """Compilers see no GPU; the interpreter neither; and nobody leaves files behind."""
        own = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        own["TMPDIR"] = scratch
        own |= self._cached
        if compiling:
            own |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        elif self._device == "interpreter":
            own |= {"CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "1"}
        return own


class Hub:
    """Starts everything at once and waits for nothing that is not needed yet. It ends the nurseries as well.

    lent: tensors of this process whose memory the processes of the GPUs use; they must not be freed before these end.
    """

    def __init__(self, nurseries: Nurseries, layout: Layout, lent: Sequence[Any] = ()) -> None:
        self._lent = tuple(lent)
        self.layout = layout
        self.gpus: list[wire.Gpu | None] = [None] * len(layout.visible)
        self._target = layout.target
        self._arguments: tuple[wire.DescribedArguments, ...] | None = None
        self._turns = [Turn(name) if layout.device == "cuda" else None for name in layout.visible]
        self._nurseries = nurseries
        self.farm: Crew[wire.Reply] | None = None
        self.desks: list[Crew[wire.Reply]] = []
        if nurseries.compiling is not None:
            self.farm = Crew(b"", wire.decode_reply, start=self._start_compiler)
        if nurseries.measuring is not None:
            self.desks = [self._crew(nurseries.measuring, name) for name in layout.visible]

    def compiler(self) -> TritonWorker | None:
        """A compile worker that is free, or None."""
        free = [] if self.farm is None else self.farm.idle()
        return free[0] if free else None

    def staff(self, needed: int) -> None:
        """Start compile workers for so many configs that nobody compiles yet, if it is known what to compile for."""
        farm = self.farm
        if farm is not None and needed > farm.starting and self._can_compile():
            for _ in range(min(needed - farm.starting, self.layout.compile_workers - len(farm))):
                farm.hire()

    def desk(self, i: int, fresh: bool = False) -> TritonWorker | None:
        """The process of GPU `i` if it is free and it is our turn, or None. fresh: it must not have served before."""
        crew = self.desks[i]
        free = crew.idle()
        if free and fresh and free[0].served:
            crew.dismiss(free[0])
            free = []
        if not free:
            self.warm()
            return None
        turn = self._turns[i]
        return free[0] if turn is None or turn.take() else None

    def leave(self, i: int) -> None:
        """Nothing is timed on GPU `i` just now: others may."""
        turn = self._turns[i]
        if turn is not None:
            turn.leave()

    def warm(self) -> None:
        """Start what will be needed whatever is asked, as soon as it can be."""
        nursery = self._nurseries.measuring
        if nursery is not None and not all(map(len, self.desks)) and nursery.can_fork():
            for crew in self.desks:
                if not len(crew):
                    crew.hire()

    def gpu(self, i: int = 0) -> wire.Gpu | None:
        """What is compiled for: what GPU `i` says of itself, or the target on paper."""
        if self.layout.device == "cuda" and i < len(self.gpus) and self.gpus[i] is not None:
            return self.gpus[i]
        return None if self._target is None else gpu_for(self._target)

    def wait(self, timeout_s: float) -> News:
        """What has come in; what processes say of their GPU when they start is kept here."""
        began = time.monotonic()
        if self._loading:
            timeout_s = min(timeout_s, LOADING_S)
        news = wait_for(self._crews(), timeout_s)
        if not news and time.monotonic() - began < min(timeout_s, TURN_S):
            time.sleep(min(timeout_s, TURN_S))  # nobody of ours is busy: it is another's turn on the GPU
        for worker, reply in news:
            if isinstance(reply, wire.Ready) and reply.gpu is not None:
                self._met(worker, reply)
        return news

    def loaded(self) -> list[tuple[str, float, float]]:
        """Of each nursery its name, how many seconds ago it was started, and how long it took to load."""
        both = {"nursery of compilers": self._nurseries.compiling, "nursery of gpus": self._nurseries.measuring}
        return [(name, one.age_s, one.loading_s) for name, one in both.items() if one and one.loading_s is not None]

    def index_of(self, worker: TritonWorker) -> int | None:
        """Which GPU's process this is; None for a compile worker, or one that was let go."""
        return next((i for i, crew in enumerate(self.desks) if worker in crew), None)

    def close(self, kept: Iterable[str] = ()) -> None:
        """End everything. kept: keys of the kernels that are to stay in Triton's cache."""
        for crew in self._crews():
            crew.close()
        self._nurseries.keep(kept)
        self._nurseries.close()
        self._lent = ()
        for i in range(len(self._turns)):
            self.leave(i)

    def _crews(self) -> Sequence[Crew[wire.Reply]]:
        return [*([] if self.farm is None else [self.farm]), *self.desks]

    def _met(self, worker: TritonWorker, ready: wire.Ready) -> None:
        i = self.index_of(worker)
        if i is not None:
            self.gpus[i] = ready.gpu
        self._arguments = ready.arguments
        if self._target is None and ready.gpu is not None and ready.gpu.target:
            self._target = ready.gpu.target

    @property
    def _loading(self) -> bool:
        """Whether there is still a nursery that cannot fork yet."""
        both = (self._nurseries.compiling, self._nurseries.measuring)
        return any(nursery is not None and not nursery.can_fork() for nursery in both)

    def _can_compile(self) -> bool:
        """Whether it is known what to compile for, and with which arguments."""
        assert self._nurseries.compiling is not None, "there is a farm"
        if self._target is None or not self._nurseries.compiling.can_fork():
            return False
        note = self._nurseries.compiling.loaded().note
        if note and not self.desks:
            raise EvaluatorError(
                f"`arguments` cannot be made without memory or a GPU ({note}); give tensors whose shapes do not depend"
                " on data"
            )
        return not note or self._arguments is not None

    def _start_compiler(self, sock: Any, stderr: int) -> Any:
        assert self._nurseries.compiling is not None, "there is a farm"
        settings: dict[str, Any] = {"target": self._target}
        if self._nurseries.compiling.loaded().note:
            settings["arguments"] = msgspec.to_builtins(self._arguments)
        return self._nurseries.compiling.start(settings, sock, stderr)

    def _crew(self, nursery: Nursery, visible: str) -> Crew[wire.Reply]:
        start = partial(nursery.start, {"device": self.layout.device, "visible": visible})
        return Crew(b"", wire.decode_reply, start=start, setting_up=_SETTING_UP)
