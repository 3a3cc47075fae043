"""A pool of worker processes with hard deadlines: orders go out, replies and deaths come back.

It knows nothing of trials. Every order gets exactly one reply; a worker that dies, or is killed because its deadline
has passed, gives `Lost` in its place.

One worker process as its parent sees it: what it is at, what it has said, and how it ends.
"""

import fcntl
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import IO, Generic, Literal, TypeVar

import msgspec

from autotune.core.errors import EvaluatorError
from autotune.shell.processes import messages, os_process, supervisor
from autotune.shell.processes.os_process import NoProcess, StartProcess, boot, socket_pair, unnamed_file

START_TIMEOUT_S = 120.0
STDERR_LIMIT = 1 << 24
TAIL = 300

R = TypeVar("R")
"""What a worker replies."""


class Lost(msgspec.Struct, frozen=True):
    """The worker is gone. timeout: it was killed at its deadline; crash: it ended by itself."""

    why: Literal["timeout", "crash"]
    message: str


class Worker(Generic[R]):
    """One process as the parent sees it.

    order: what it is busy with; "start" at first, None when it waits for orders. served: how many orders to build it
    has got, so that what an earlier config left behind can be told from the present one's fault.
    following: the order after that and its seconds. It has been sent already, so that the worker need not wait for us.
    held: a trial of the session is built, or being built, in it. paused_s: how long its last order was stopped.
    """

    def __init__(
        self, process: os_process.Process, sock: socket.socket, stderr: IO[bytes], decode: Callable[[bytes], R]
    ) -> None:
        self.process = process
        self.sock = sock
        self.order: msgspec.Struct | Literal["start"] | None = "start"
        self.following: tuple[msgspec.Struct, float] | None = None
        self._born = time.monotonic()
        self.deadline = self._born + START_TIMEOUT_S
        self.allowed_s = START_TIMEOUT_S
        self.served = 0
        self.held = False
        self.paused_at: float | None = None
        self.paused_s = 0.0
        self.resident_mb = 0.0
        self._stderr = stderr
        self._decode = decode
        self._buffer = bytearray()
        self._open = True
        self._garbled = False

    @property
    def age_s(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._born

    def begin(self, order: msgspec.Struct, timeout_s: float) -> None:
        """It is at this order now, of which `timeout_s` seconds are allowed."""
        self.order, self.allowed_s, self.paused_s = order, timeout_s, 0.0
        self.deadline = time.monotonic() + timeout_s
        self.served += bool(getattr(order, "config", ""))

    def done(self) -> None:
        """It has answered, and goes on with what follows."""
        self.order = None
        if self.following is not None:
            (order, timeout_s), self.following = self.following, None
            self.begin(order, timeout_s)

    def receive(self) -> list[R] | None:
        """The replies that are in; None if no more can come, or what came is no reply."""
        if self._open:
            try:
                while part := self.sock.recv(1 << 16):
                    self._buffer += part
                self._open = False
            except BlockingIOError:
                pass
            except ConnectionResetError:  # it died with an order unread
                self._open = False
        try:
            replies = [self._decode(body) for body in messages.split(self._buffer)]
        except (ValueError, msgspec.DecodeError):
            self._garbled = True
            return None
        # A child that holds the socket open hides the end of the stream, so look at the process as well.
        return replies if replies or (self._open and not self.process.has_exited()) else None

    def tail(self) -> str:
        """The end of what it wrote to stderr during its order, on one line."""
        with suppress(OSError, ValueError):
            fd = self._stderr.fileno()
            size = os.fstat(fd).st_size
            text = os.pread(fd, 4 * TAIL, max(0, size - 4 * TAIL)).decode(errors="replace")
            text = " ".join(text.split())[-TAIL:]
            return f"; stderr ends: {text}" if text else ""
        return ""

    def trim(self) -> None:
        """Empty the stderr file where a kernel floods it: the disk is everybody's."""
        if os.fstat(self._stderr.fileno()).st_size > STDERR_LIMIT:
            os.ftruncate(self._stderr.fileno(), 0)

    def hurry(self, seconds: float) -> None:
        """Nobody waits for it any longer than this."""
        self.deadline = min(self.deadline, time.monotonic() + seconds)
        if self.following is not None:
            self.following = (self.following[0], min(self.following[1], seconds))

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the worker and its descendants."""
        if not self.process.has_exited():
            os_process.signal_tree(self.process.pid, number)

    def end(self) -> str:
        """Reap a worker of which nothing more can come; what was the matter with it."""
        if self._garbled:
            self.kill()
            return "sent what is no reply"
        ended = os_process.await_exit(self.process, 1.0)
        status = self.kill()
        return os_process.describe_exit(status) if ended else "closed its connection"

    def kill(self) -> int | None:
        """Kill it and all that it has started, and reap it; the exit status."""
        self.let_go()
        return self.process.kill()

    def let_go(self) -> None:
        """Close what leads to it."""
        with suppress(OSError):
            self.sock.close()
        with suppress(OSError):
            self._stderr.close()


STARTS = 3
LOOK_S = 0.1
GROWTH_MB = 512.0

PATIENCE_S = 10.0
"""How long to go on without a worker where the system gives no process: others may give back what they use."""


class WorkerPool(Generic[R]):
    """The workers of one session that share a workload and a language.

    start: makes a worker; by default a process that loads `payload` itself. decode: what a worker says. setting_up:
    what a worker does when it starts, for the message where it takes too long.
    """

    def __init__(
        self,
        payload: bytes,
        decode: Callable[[bytes], R],
        memory_limit_mb: int | None = None,
        start: StartProcess | None = None,
        setting_up: str = "`args`, `make_args` and `reference`",
    ) -> None:
        self._memory_limit_mb = memory_limit_mb
        self._decode = decode
        self._failed_starts = 0
        self._setting_up = setting_up
        self._workers: list[Worker[R]] = []
        self._start = start or self._boot
        self._payload = unnamed_file(payload)
        self._owner = os.getpid()
        self._hire_from = 0.0
        self._without_since: float | None = None

    def __len__(self) -> int:
        return len(self._workers)

    def __contains__(self, worker: object) -> bool:
        return worker in self._workers

    def idle(self) -> list[Worker[R]]:
        """The workers that could take a new config, those that served most first."""
        free = [w for w in self._workers if w.order is None and not w.held]
        return sorted(free, key=lambda w: -w.served)

    @property
    def starting(self) -> int:
        """How many workers are loading the workload."""
        return sum(w.order == "start" for w in self._workers)

    @property
    def retry_in_s(self) -> float:
        """Seconds until a worker may be started again where the system gave none; 0 where it does."""
        return max(0.0, self._hire_from - time.monotonic())

    @property
    def busy(self) -> bool:
        """Whether a reply is due from anybody."""
        return any(w.order is not None for w in self._workers)

    def spawn(self) -> None:
        """Start one more worker; it is idle once it is ready.

        Where the system gives no process now, an idle one makes room and it is tried again later, ever more rarely.
        Raises NoProcess where there is none for a while, and no other worker is at work.
        """
        now = time.monotonic()
        if now < self._hire_from:
            return
        try:
            self._workers.append(self._started())
            self._without_since = None
        except NoProcess:
            idle = self.idle()
            if idle:
                self.kill(idle[0])
            self._without_since = now if self._without_since is None else self._without_since
            if not self.busy and now - self._without_since > PATIENCE_S:
                raise
            self._hire_from = now + max(LOOK_S, (now - self._without_since) / 4)

    def _started(self) -> Worker[R]:
        with ExitStack() as stack:
            ours, theirs = map(stack.enter_context, socket_pair())
            stderr = stack.enter_context(unnamed_file())
            # Append mode, for all who write to it: after a truncation they go on at its new end.
            fcntl.fcntl(stderr, fcntl.F_SETFL, fcntl.fcntl(stderr, fcntl.F_GETFL) | os.O_APPEND)
            process = self._start(theirs, stderr.fileno())
            theirs.close()
            ours.setblocking(False)
            stack.pop_all()
        return Worker(process, ours, stderr, self._decode)

    def _boot(self, sock: socket.socket, stderr: int) -> os_process.Process:
        settings = {"memory_limit_mb": self._memory_limit_mb}
        files = {"payload": self._payload.fileno()}
        return boot("autotune.shell.evaluators.worker_main", settings, sock, files, stderr)

    def send(self, worker: Worker[R], order: msgspec.Struct, timeout_s: float) -> None:
        """Send an order that must be answered within `timeout_s` seconds. One that has a `config` begins a job.

        A worker that is busy takes it up after its present order, and no more than one.
        """
        self._resume(worker)
        if worker.order is None:
            worker.begin(order, timeout_s)
        else:
            assert worker.following is None, "it has its next order"
            worker.following = (order, timeout_s)
        with suppress(OSError):  # a dead worker is found by `wait`
            worker.sock.sendall(messages.encode(order))

    def release(self, worker: Worker[R], suspect: bool = False) -> None:
        """The worker's config is done. One that is suspect, has grown, or left children behind is let go."""
        worker.held = False
        pid = worker.process.pid
        allowed = GROWTH_MB if self._memory_limit_mb is None else min(GROWTH_MB, self._memory_limit_mb / 2)
        grown = os_process.resident_mb(pid) - worker.resident_mb > allowed
        if suspect or grown or supervisor.descendants(pid):
            self.kill(worker)

    def kill(self, worker: Worker[R]) -> None:
        """Kill a worker, whatever it is doing; nothing more is heard of it."""
        if self._owner == os.getpid():
            worker.kill()
        else:  # a fork of the program, whose workers these are
            worker.let_go()
        if worker in self._workers:
            self._workers.remove(worker)

    def run_alone(self, worker: Worker[R]) -> None:
        """Stop all others, their deadlines too, so that `worker` has the machine for itself.

        All: what one of them holds or has held may have left threads that work.
        """
        self._resume(worker)
        for other in self._workers:
            if other is not worker and other.paused_at is None:
                other.signal_all(signal.SIGSTOP)
                other.paused_at = time.monotonic()

    def resume(self) -> None:
        """Let all go on that were stopped."""
        for worker in self._workers:
            self._resume(worker)

    def _resume(self, worker: Worker[R]) -> None:
        if worker.paused_at is not None:
            worker.signal_all(signal.SIGCONT)
            pause = time.monotonic() - worker.paused_at
            worker.paused_at = None
            if worker.order is not None:
                worker.paused_s += pause
                worker.deadline += pause

    def wait(self, timeout_s: float) -> list[tuple[Worker[R], R | Lost]]:
        """What has come in, waiting at most so long for the first; raises EvaluatorError if no worker can start."""
        return wait_for((self,), timeout_s)

    def poll(self) -> list[tuple[Worker[R], R | Lost]]:
        """What has come in, and who is dead or late, without waiting."""
        return [(worker, reply) for worker in list(self._workers) for reply in self._poll(worker)]

    def busy_workers(self) -> list[Worker[R]]:
        """Those who owe a reply."""
        return [worker for worker in self._workers if worker.order is not None]

    def _poll(self, worker: Worker[R]) -> Sequence[R | Lost]:
        replies = worker.receive()  # before the deadline: what is in was in time, however late we look
        due = (worker.order is not None) + (worker.following is not None)
        if replies is None or len(replies) > due:
            return self._bury(worker)
        if replies:
            return [self._answered(worker, reply) for reply in replies]
        worker.trim()
        overdue = worker.order is not None and worker.paused_at is None and time.monotonic() >= worker.deadline
        return [self._expire(worker)] if overdue else []

    def _answered(self, worker: Worker[R], reply: R) -> R:
        started = worker.order == "start"
        worker.done()
        if isinstance(reply, messages.Broken):
            raise EvaluatorError(f"the workload cannot be set up in a worker process: {reply.message}")
        if started:
            self._failed_starts = 0
            worker.resident_mb = os_process.resident_mb(worker.process.pid)
        return reply

    def _bury(self, worker: Worker[R]) -> Sequence[Lost]:
        tail, starting, idle = worker.tail(), worker.order == "start", worker.order is None and not worker.held
        text = f"the worker {worker.end()}{tail}"
        self._workers.remove(worker)
        if starting:
            self._failed_starts += 1
            self._hire_from = time.monotonic() + LOOK_S * self._failed_starts
            if self._failed_starts >= STARTS and not self.busy:
                raise NoProcess(f"no worker process can be started: {text}")
        return [] if starting or idle else [Lost("crash", text)]

    def _expire(self, worker: Worker[R]) -> Lost:
        tail, starting = worker.tail(), worker.order == "start"
        self.kill(worker)
        if starting:
            raise EvaluatorError(
                f"a worker process took over {START_TIMEOUT_S:g} s to load the workload; make"
                f" {self._setting_up} quicker{tail}"
            )
        return Lost("timeout", f"killed after {worker.allowed_s:g} s{tail}")

    def kill_busy(self) -> None:
        """Kill all who start, build, run or hold a config."""
        for worker in [w for w in self._workers if w.order is not None or w.held]:
            self.kill(worker)

    def close(self) -> None:
        """Kill everybody."""
        for worker in list(self._workers):
            self.kill(worker)
        self._payload.close()


def wait_for(pools: Sequence[WorkerPool[R]], timeout_s: float) -> list[tuple[Worker[R], R | Lost]]:
    """What has come in from any of these pools, waiting at most so long for the first; see `WorkerPool.wait`."""
    until = time.monotonic() + timeout_s
    while True:
        news = [item for pool in pools for item in pool.poll()]
        left = until - time.monotonic()
        listened = [worker for pool in pools for worker in pool.busy_workers()]
        if news or left <= 0:
            return news
        if not listened:
            time.sleep(min(left, max((pool.retry_in_s for pool in pools), default=0.0)))
            return news
        soonest = min((w.deadline for w in listened if w.paused_at is None), default=until) - time.monotonic()
        poll = select.poll()  # of all ways to wait the one that needs no descriptor
        for worker in listened:
            poll.register(worker.sock, select.POLLIN)
        poll.poll(1e3 * max(0.0, min(left, soonest, LOOK_S)))
