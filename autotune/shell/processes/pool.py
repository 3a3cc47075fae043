"""A pool of worker processes with hard deadlines: orders go out, replies and deaths come back.

It knows nothing of trials. Every order gets exactly one reply; a worker that dies, or that is killed because its
deadline has passed, gives `Lost` in place of the reply.
"""

import fcntl
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import IO, Any, Generic, Literal, Protocol, TypeVar

import msgspec

from autotune.core.errors import EvaluatorError
from autotune.shell.processes import messages, os_process, supervisor
from autotune.shell.processes.os_process import NoProcess, StartProcess, socket_pair, unnamed_file

START_TIMEOUT_S = 120.0
"""Seconds that a worker may take to load its workload, user functions included."""
PATIENCE_S = 10.0
"""Seconds to go on without a worker where the system gives no process: other programs may release theirs."""
_STARTS = 3
"""Workers that may end while they start, one after the other, before the pool gives up."""
_POLL_S = 0.1
"""How often to look at workers whose socket says nothing: a child may hold it open."""
_GROWTH_MB = 512.0
"""MiB by which a worker's memory may grow before it is replaced: leaks of several jobs must not add up."""
_STDERR_LIMIT = 1 << 24
"""Bytes of stderr that are kept: a kernel that floods it must not fill the disk."""
_STDERR_TAIL = 300
"""Characters of stderr in a message."""

R = TypeVar("R")
"""The replies of a worker."""


class Lost(msgspec.Struct, frozen=True):
    """The worker is gone. reason: "timeout" if it was killed at its deadline, "crash" if it ended by itself."""

    reason: Literal["timeout", "crash"]
    message: str


class Worker(Generic[R]):
    """One worker process as its parent sees it.

    order: the order in progress; "start" at first, None when the worker is idle.
    following: the order after that and its seconds. It has been sent already, so that the worker need not wait for us.
    served: how many jobs the worker has got, so that a failure that an earlier job may have caused can be told apart.
    held: a trial of the session is built, or being built, in this worker.
    deadline: on the monotonic clock. allowed_s: seconds for the order. paused_s: how long its last order was stopped.
    """

    def __init__(
        self, process: os_process.Process, sock: socket.socket, stderr: IO[bytes], decode: Callable[[bytes], R]
    ) -> None:
        self.process = process
        self.sock = sock
        self.order: msgspec.Struct | Literal["start"] | None = "start"
        self.following: tuple[msgspec.Struct, float] | None = None
        self.served = 0
        self.held = False
        self.allowed_s = START_TIMEOUT_S
        self._started_at = time.monotonic()
        self.deadline = self._started_at + START_TIMEOUT_S
        self.paused_at: float | None = None
        self.paused_s = 0.0
        self.resident_mb = 0.0
        self._stderr = stderr
        self._decode = decode
        self._buffer = bytearray()
        self._open = True
        self._garbled = False

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self.process.pid

    @property
    def age_s(self) -> float:
        """Seconds since the worker was started."""
        return time.monotonic() - self._started_at

    def begin(self, order: msgspec.Struct, timeout_s: float) -> None:
        """The worker begins this order now, and has `timeout_s` seconds for it."""
        self.order, self.allowed_s, self.paused_s = order, timeout_s, 0.0
        self.deadline = time.monotonic() + timeout_s
        self.served += isinstance(order, messages.JobOrder)

    def finish(self) -> None:
        """The worker has answered, and begins the following order, if there is one."""
        self.order = None
        if self.following is not None:
            (order, timeout_s), self.following = self.following, None
            self.begin(order, timeout_s)

    def receive(self) -> list[R] | None:
        """The replies that have arrived; None if no more can come, or the bytes are no reply."""
        if self._open:
            try:
                while part := self.sock.recv(1 << 16):
                    self._buffer += part
                self._open = False
            except BlockingIOError:
                pass
            except ConnectionResetError:  # the worker died with an order unread
                self._open = False
        try:
            replies = [self._decode(body) for body in messages.split(self._buffer)]
        except (ValueError, msgspec.DecodeError):
            self._garbled = True
            return None
        # A child that holds the socket open hides the end of the stream, so look at the process as well.
        return replies if replies or (self._open and not self.process.has_exited()) else None

    def stderr_tail(self) -> str:
        """The end of the worker's stderr during its order, on one line."""
        text = read_tail(self._stderr)
        return f"; stderr ends: {text}" if text else ""

    def trim_stderr(self) -> None:
        """Empty the stderr file where a kernel floods it."""
        if os.fstat(self._stderr.fileno()).st_size > _STDERR_LIMIT:
            os.ftruncate(self._stderr.fileno(), 0)

    def shorten_deadline(self, seconds: float) -> None:
        """Nobody waits for the worker's orders any longer than this."""
        self.deadline = min(self.deadline, time.monotonic() + seconds)
        if self.following is not None:
            self.following = (self.following[0], min(self.following[1], seconds))

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the worker and its descendants."""
        if not self.process.has_exited():
            os_process.signal_tree(self.process.pid, number)

    def kill(self) -> int | None:
        """Kill the worker and everything it has started, and reap it; the exit status."""
        self.close()
        return self.process.kill()

    def reap(self) -> str:
        """Reap a worker from which no more can come; the cause, for people."""
        if self._garbled:
            self.kill()
            return "sent what is no reply"
        ended = os_process.await_exit(self.process, 1.0)
        status = self.kill()
        return os_process.describe_exit(status) if ended else "closed its connection"

    def close(self) -> None:
        """Close the socket and the stderr file."""
        with suppress(OSError):
            self.sock.close()
        with suppress(OSError):
            self._stderr.close()


def read_tail(file: IO[bytes]) -> str:
    """The end of a file of text, on one line."""
    with suppress(OSError, ValueError):
        size = os.fstat(file.fileno()).st_size
        text = os.pread(file.fileno(), 2000, max(0, size - 2000)).decode(errors="replace")
        return " ".join(text.split())[-_STDERR_TAIL:]
    return ""


class WorkerPool(Generic[R]):
    """The workers of one session that share a workload and a language.

    start: starts a worker. decode: reads a reply from the body of a frame. memory_limit_mb: MiB that a job may
    allocate, None without a limit. setting_up: what a worker does when it starts, for the message where that takes too
    long. files: closed with the pool.
    """

    def __init__(
        self,
        start: StartProcess,
        decode: Callable[[bytes], R],
        *,
        memory_limit_mb: int | None = None,
        setting_up: str = "`args`, `make_args` and `reference`",
        files: Sequence[IO[bytes]] = (),
    ) -> None:
        self._start = start
        self._decode = decode
        self._most_growth_mb = _GROWTH_MB if memory_limit_mb is None else min(_GROWTH_MB, memory_limit_mb / 2)
        self._setting_up = setting_up
        self._files = tuple(files)
        self._workers: list[Worker[R]] = []
        self._owner = os.getpid()
        self._failed_starts = 0
        self._spawn_from = 0.0
        self._without_since: float | None = None

    def __len__(self) -> int:
        return len(self._workers)

    def __contains__(self, worker: object) -> bool:
        return worker in self._workers

    def idle(self) -> list[Worker[R]]:
        """The workers that could take a new job, the most experienced first."""
        free = [w for w in self._workers if w.order is None and not w.held]
        return sorted(free, key=lambda w: -w.served)

    def busy_workers(self) -> list[Worker[R]]:
        """The workers with an order in progress."""
        return [worker for worker in self._workers if worker.order is not None]

    @property
    def starting(self) -> int:
        """How many workers are loading the workload."""
        return sum(w.order == "start" for w in self._workers)

    @property
    def retry_in_s(self) -> float:
        """Seconds until a worker may be started again, where the system gave no process; 0 where it does."""
        return max(0.0, self._spawn_from - time.monotonic())

    def spawn(self) -> None:
        """Start one more worker; it is idle once it is ready.

        Where the system gives no process now, an idle worker is killed to make room, and the pool tries again later,
        ever more rarely. Raises NoProcess after PATIENCE_S seconds without a process and without a worker at work.
        """
        now = time.monotonic()
        if now < self._spawn_from:
            return
        try:
            self._workers.append(self._start_worker())
            self._without_since = None
        except NoProcess:
            idle = self.idle()
            if idle:
                self.kill(idle[0])
            self._without_since = now if self._without_since is None else self._without_since
            if not self.busy_workers() and now - self._without_since > PATIENCE_S:
                raise
            self._spawn_from = now + max(_POLL_S, (now - self._without_since) / 4)

    def _start_worker(self) -> Worker[R]:
        with ExitStack() as stack:
            ours, theirs = map(stack.enter_context, socket_pair())
            stderr = stack.enter_context(unnamed_file())
            # Append mode, for all writers: after a truncation they go on at the new end of the file.
            fcntl.fcntl(stderr, fcntl.F_SETFL, fcntl.fcntl(stderr, fcntl.F_GETFL) | os.O_APPEND)
            process = self._start(theirs, stderr.fileno())
            theirs.close()
            ours.setblocking(False)
            stack.pop_all()
        return Worker(process, ours, stderr, self._decode)

    def send(self, worker: Worker[R], order: msgspec.Struct, timeout_s: float) -> None:
        """Send an order that must be answered within `timeout_s` seconds. A JobOrder begins a job.

        A busy worker takes the order up after its present one; it can have only one such order.
        """
        self._resume(worker)
        if worker.order is None:
            worker.begin(order, timeout_s)
        else:
            assert worker.following is None, "the worker has its next order"
            worker.following = (order, timeout_s)
        with suppress(OSError):  # a dead worker is found by `wait`
            worker.sock.sendall(messages.encode(order))

    def release(self, worker: Worker[R], suspect: bool = False) -> None:
        """The worker's job is done. A worker that is suspect, has grown, or left children behind is killed."""
        worker.held = False
        pid = worker.process.pid
        grown = os_process.resident_mb(pid) - worker.resident_mb > self._most_growth_mb
        if suspect or grown or supervisor.descendants(pid):
            self.kill(worker)

    def kill(self, worker: Worker[R]) -> None:
        """Kill a worker, whatever it is doing; it gives no further reply."""
        if self._owner == os.getpid():
            worker.kill()
        else:  # a fork of the program; the workers are the program's
            worker.close()
        if worker in self._workers:
            self._workers.remove(worker)

    def kill_busy(self) -> None:
        """Kill all workers that start, build, run or hold a config."""
        self._kill_all([w for w in self._workers if w.order is not None or w.held])

    def _kill_all(self, workers: Sequence[Worker[R]]) -> None:
        """Kill these workers side by side: the end of a large process takes a while."""
        if self._owner == os.getpid():
            for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none forks while we look
                for worker in workers:
                    worker.signal_all(number)
        for worker in workers:
            self.kill(worker)

    def run_alone(self, worker: Worker[R]) -> None:
        """Stop all other workers, and their deadlines, so that this one has the machine for itself.

        Idle workers are stopped as well: a job that one of them has held may have left threads that work.
        """
        self._resume(worker)
        for other in self._workers:
            if other is not worker and other.paused_at is None:
                other.signal_all(signal.SIGSTOP)
                other.paused_at = time.monotonic()

    def resume(self) -> None:
        """Let all stopped workers go on."""
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
        """The replies that have arrived, waiting so long at most for the first; see `wait_for_replies`."""
        return wait_for_replies((self,), timeout_s)

    def poll(self) -> list[tuple[Worker[R], R | Lost]]:
        """The replies that have arrived, and the workers that are dead or late, without waiting.

        Raises EvaluatorError if the workload cannot be loaded, NoProcess if no worker can be started.
        """
        return [(worker, reply) for worker in list(self._workers) for reply in self._poll(worker)]

    def _poll(self, worker: Worker[R]) -> Sequence[R | Lost]:
        replies = worker.receive()  # before the deadline: a reply that is here was in time, however late we look
        due = (worker.order is not None) + (worker.following is not None)
        if replies is None or len(replies) > due:
            return self._reap(worker)
        if replies:
            return [self._take_reply(worker, reply) for reply in replies]
        worker.trim_stderr()
        overdue = worker.order is not None and worker.paused_at is None and time.monotonic() >= worker.deadline
        return [self._expire(worker)] if overdue else []

    def _take_reply(self, worker: Worker[R], reply: R) -> R:
        started = worker.order == "start"
        worker.finish()
        if isinstance(reply, messages.Broken):
            raise EvaluatorError(f"the workload cannot be set up in a worker process: {reply.message}")
        if started:
            self._failed_starts = 0
            worker.resident_mb = os_process.resident_mb(worker.process.pid)
        return reply

    def _reap(self, worker: Worker[R]) -> Sequence[Lost]:
        tail, starting, idle = worker.stderr_tail(), worker.order == "start", worker.order is None and not worker.held
        text = f"the worker {worker.reap()}{tail}"
        self._workers.remove(worker)
        if starting:
            self._failed_starts += 1
            self._spawn_from = time.monotonic() + _POLL_S * self._failed_starts
            if self._failed_starts >= _STARTS and not self.busy_workers():
                raise NoProcess(f"no worker process can be started: {text}")
        return [] if starting or idle else [Lost("crash", text)]

    def _expire(self, worker: Worker[R]) -> Lost:
        tail, starting = worker.stderr_tail(), worker.order == "start"
        self.kill(worker)
        if starting:
            raise EvaluatorError(
                f"a worker process took over {START_TIMEOUT_S:g} s to load the workload; make"
                f" {self._setting_up} quicker{tail}"
            )
        return Lost("timeout", f"killed after {worker.allowed_s:g} s{tail}")

    def close(self) -> None:
        """Kill all workers."""
        self._kill_all(list(self._workers))
        for file in self._files:
            file.close()


class ReplySource(Protocol):
    """A pool as `wait_for_replies` sees it; see `WorkerPool`."""

    @property
    def retry_in_s(self) -> float: ...

    def poll(self) -> Sequence[tuple[Any, Any]]: ...

    def busy_workers(self) -> Sequence[Worker[Any]]: ...


def wait_for_replies(pools: Sequence[ReplySource], timeout_s: float) -> list[tuple[Any, Any]]:
    """The replies that have arrived from any of these pools, waiting so long at most for the first; see `poll`."""
    until = time.monotonic() + timeout_s
    while True:
        replies = [item for pool in pools for item in pool.poll()]
        left = until - time.monotonic()
        busy = [worker for pool in pools for worker in pool.busy_workers()]
        if replies or left <= 0:
            return replies
        if not busy:
            time.sleep(min(left, max((pool.retry_in_s for pool in pools), default=0.0)))
            return replies
        soonest = min((w.deadline for w in busy if w.paused_at is None), default=until) - time.monotonic()
        poll = select.poll()  # of all ways to wait the one that needs no descriptor
        for worker in busy:
            poll.register(worker.sock, select.POLLIN)
        poll.poll(1e3 * max(0.0, min(left, soonest, _POLL_S)))
