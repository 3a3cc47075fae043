"""One workload in this process: builds a config, checks its output and times it, without any other process.

`Inputs` gives every config the arguments as the user gave them: changes by earlier configs are undone.
"""

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from time import perf_counter, perf_counter_ns
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any
from zlib import crc32

import numpy as np
from msgspec.structs import replace

from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.core.formatting import describe_error
from autotune.core.outcomes import Failed, FailureKind, Outcome, Timed, timed_or_failed
from autotune.shell.evaluators import tensors, timing
from autotune.shell.evaluators.checking import OutputCheck, Tolerance, has_equality, list_leaves
from autotune.shell.evaluators.tensors import is_tensor
from autotune.shell.evaluators.workload import Workload
from autotune.shell.user_frames import describe_with_line

_VERIFY_LEAST, _VERIFY_MOST, _VERIFY_S = 2, 32, 0.01
"""Calls that are checked after the last sample: at least two in a row, however long they take, and more within ten
milliseconds, which is little beside the timing of a config."""

_RTOL, _ATOL = 1e-3, 1e-4
"""Default tolerances of floats of 32 bits and more: sums in another order, and products in tf32, stay within them."""

_IMMUTABLE = (
    *(bool, int, float, complex, str, bytes, range, type, np.generic, np.dtype),
    *(FunctionType, BuiltinFunctionType, ModuleType),
)
"""Types whose values no kernel can change."""


class Tainted(BaseException):
    """The inputs or the expected output were overwritten, so that nothing in this process can be trusted any more.

    No Exception: it must pass the handlers that turn the errors of a config into an outcome.
    """


class BuiltConfig:
    """A built config. calls: how many calls make one sample. mutates: whether it changes its arguments."""

    def __init__(self, function: Callable[..., Any], compile_s: float) -> None:
        self.function = function
        self.compile_s = compile_s
        self.calls = 1
        self.mutates = False


class Bench:
    """A workload with its inputs and its expected output.

    Raises the errors of `make_args` and of `reference`, and EvaluatorError if the reference gives nothing to compare.
    compared: how an output is checked, in words; "" if it is not.
    """

    def __init__(self, work: Workload) -> None:
        self._work = work
        self._inputs = Inputs(tuple(work.make_args()) if work.make_args is not None else work.args)
        self._in_place: tuple[int, ...] = ()
        self._expected = self._compute_expected()
        self._check = self._make_check()
        self.compared = "by the checker" if work.checker is not None else self._check.describe() if self._check else ""
        self._checksum = self._compute_sums()

    def build(self, config: Config) -> BuiltConfig | Failed:
        """Build a config, without a timeout; a failure is an outcome."""
        start = perf_counter()
        try:
            function = self._work.build(config)
        except (Exception, SystemExit) as error:
            return failure_of("compile_error", error, perf_counter() - start)
        seconds = perf_counter() - start
        if not callable(function):
            message = f"build returned {type(function).__name__}; return the function to time"
            return Failed("compile_error", message, compile_s=seconds)
        return BuiltConfig(function, seconds)

    def run(self, kernel: BuiltConfig, cutoff_ms: float | None, budget_s: float) -> Outcome:
        """The outcome of the first call, its check, warm-up, samples, and a last check.

        cutoff_ms: see `timing.measure`. budget_s: seconds after which no further sample begins.
        """
        start = perf_counter_ns()
        try:
            message = self._check_call(kernel)
            if message is not None:
                return Failed("wrong_answer", message, kernel.compile_s, _since(start))
            stop = start + int(budget_s * 1e9)
            schedule, timer = self._work.schedule, self._work.timer
            samples = timing.measure(self._bind(kernel), schedule, cutoff_ms, self._reset(kernel), timer, stop)
            # A config that is cut off is not picked, so it needs no second check.
            again = None if samples.cut else self.verify(kernel)
        except (Exception, SystemExit) as error:
            return failure_of("run_error", error, kernel.compile_s, _since(start))
        if again is not None:
            return replace(again, run_s=_since(start))
        outcome = timed_or_failed(samples.times_ms, kernel.compile_s, _since(start), samples.cut)
        if not isinstance(outcome, Timed):
            return outcome
        apply_checker = {"checked": self.compared} if self.compared else {}
        return replace(outcome, details={"calls_per_sample": samples.calls, **apply_checker})

    def prepare(self, kernel: BuiltConfig) -> Failed | None:
        """The first call, its check and warm-up, before `sample`; None if all is well."""
        try:
            message = self._check_call(kernel)
            if message is not None:
                return Failed("wrong_answer", message, kernel.compile_s)
            call, reset = self._bind(kernel), self._reset(kernel)
            if self._work.timer is None:
                first = timing.sample(call, 1, reset)
                kernel.calls = timing.warm_up(call, self._work.schedule, first, reset)
        except (Exception, SystemExit) as error:
            return failure_of("run_error", error, kernel.compile_s)
        return None

    def sample(self, kernel: BuiltConfig) -> float | Failed:
        """One sample in milliseconds, after one untimed call that fills the caches again."""
        try:
            reset, call = self._reset(kernel), self._bind(kernel)
            timing.sample(call, 1, reset)
            return timing.sample(call, kernel.calls, reset, self._work.timer)
        except (Exception, SystemExit) as error:
            return failure_of("run_error", error, kernel.compile_s)

    def verify(self, kernel: BuiltConfig) -> Failed | None:
        """Check a few more calls: a kernel may be right at first and wrong later, or now and then."""
        if not self.compared:
            return None
        try:
            message = find_wrong_call(lambda: self._check_call(kernel))
        except (Exception, SystemExit) as error:
            return failure_of("run_error", error, kernel.compile_s)
        if message is None:
            return None
        why = f"it was right at first, and wrong after it was timed: {message}"
        return Failed("wrong_answer", why, kernel.compile_s)

    def _bind(self, kernel: BuiltConfig) -> timing.Call:
        function, inputs, args = kernel.function, self._inputs, self._inputs.working
        if kernel.mutates and not inputs.in_place:  # arguments that are copied again before a sample are other objects
            return lambda: function(*inputs.working)
        return lambda: function(*args)

    def _reset(self, kernel: BuiltConfig) -> timing.Call | None:
        return self._inputs.restore if kernel.mutates else None

    def _check_call(self, kernel: BuiltConfig) -> str | None:
        self._inputs.restore()
        output = kernel.function(*self._inputs.working)
        message = self._judge(self._arguments(self._inputs) if self._in_place else output)
        if message is not None and self._compute_sums() != self._checksum:
            raise Tainted("the inputs or the expected output were overwritten")
        kernel.mutates = kernel.mutates or bool(self._inputs.find_changed())
        return message

    def _judge(self, output: Any) -> str | None:
        if self._work.checker is not None:
            return apply_checker(self._work.checker, self._for_checker(output), self._for_checker(self._expected))
        found = self._check.mismatch(output) if self._check is not None else None
        return None if found is None else found.message

    def _for_checker(self, value: Any) -> Any:
        """The value for a checker: of a reference that works in place, its arguments as a tuple."""
        return tuple(value.values()) if self._in_place else value

    def _compute_expected(self) -> Any:
        reference = self._work.reference
        if not callable(reference):
            return reference
        inputs = Inputs(self._inputs.working)
        expected = reference(*inputs.working)
        if expected is not None:
            return expected
        if not inputs.find_changed():
            raise EvaluatorError(
                "the reference returned None and changed no argument; let it return the right output, or change its"
                " arguments as the kernel must"
            )
        self._in_place = tuple(i for i, value in enumerate(inputs.working) if is_comparable(value))
        return self._arguments(inputs)

    def _arguments(self, inputs: "Inputs") -> dict[str, Any]:
        """The arguments that a reference or a kernel has changed in place, by name."""
        return {f"args[{i}]": inputs.working[i] for i in self._in_place}

    def _make_check(self) -> OutputCheck | None:
        work = self._work
        if work.reference is None or work.checker is not None:
            return None
        tolerance = Tolerance(rtol=work.rtol, atol=work.atol, usual=(_RTOL, _ATOL), same_type=False)
        return OutputCheck(self._expected, tolerance, named=bool(self._in_place)).require_elements()

    def _compute_sums(self) -> tuple[int, int]:
        return self._inputs.checksum(), compute_checksum(self._expected)


def find_wrong_call(check: Callable[[], str | None]) -> str | None:
    """The message of the first of a few calls that is wrong; None if all are right.

    At least two calls, so that a kernel that is wrong every other time is found, and more while there is time.
    """
    start = perf_counter()
    for call in range(_VERIFY_MOST):
        if call >= _VERIFY_LEAST and perf_counter() - start > _VERIFY_S:
            break
        if (message := check()) is not None:
            return message
    return None


def is_comparable(value: Any) -> bool:
    """Whether an argument can be compared: arrays, numbers, texts, and containers of these."""
    try:
        return bool(OutputCheck(value, Tolerance(rtol=0.0, atol=0.0)).leaves) and not callable(value)
    except EvaluatorError:
        return False


def apply_checker(checker: Callable[[Any, Any], bool | str], output: Any, expected: Any) -> str | None:
    """The verdict of the user's checker on an output: None, or its fault in words."""
    try:
        answer = checker(output, expected)
        if answer is None:
            return "the checker returned None; return True, False or a message"
        if isinstance(answer, str):
            return answer or "the checker refused the output"
        return None if bool(answer) else "the checker refused the output"
    except Exception as error:
        return f"the checker raised {describe_error(error)}"


def failure_of(kind: FailureKind, error: BaseException, compile_s: float = 0.0, run_s: float = 0.0) -> Failed:
    """The outcome of an exception; running out of memory is a kind of its own in every phase."""
    kind = "out_of_memory" if isinstance(error, MemoryError) else kind
    return Failed(kind, describe_with_line(error), compile_s, run_s)


def _since(start_ns: int) -> float:
    return (perf_counter_ns() - start_ns) / 1e9


class Inputs:
    """Working copies of `args`; kernels never get the originals.

    `restore` writes the values of arrays, tensors, lists, dicts, sets and buffers, nested in any way, back to where
    they are; objects of other types are copied again. Values that share memory share it in the copies, too. Raises
    EvaluatorError for an argument that cannot be copied.
    """

    def __init__(self, args: Sequence[Any]) -> None:
        self._pristine = tuple(args)
        self._copier = _Copier(self._pristine)
        self.working = tuple(self._copier.copy(value, f"args[{i}]") for i, value in enumerate(self._pristine))
        self.in_place = all(map(_can_refill, self._pristine))
        """Whether all arguments can be restored in place."""

    def restore(self) -> None:
        """Make the working arguments equal to the originals again."""
        self.working = tuple(self._copier.restore(value, f"args[{i}]") for i, value in enumerate(self._pristine))

    def find_changed(self) -> list[int]:
        """The positions of the arguments that differ from the originals, as far as they can be compared."""
        pairs = enumerate(zip(self.working, self._pristine, strict=True))
        return [i for i, (a, b) in pairs if not is_same(a, b)]

    def checksum(self) -> int:
        """A checksum of the originals, which no kernel may change."""
        return compute_checksum(self._pristine)


class _Copier:
    """Copies values so that objects that are identical in `whole`, or share memory there, do so in the copies."""

    def __init__(self, whole: Sequence[Any]) -> None:
        self._memo: dict[int, Any] = {}
        self._alive: list[Any] = []  # a copied object must live on, lest another gets its id
        leaves = [leaf for _, leaf in list_leaves(whole)]
        arrays = {id(leaf): leaf for leaf in leaves if isinstance(leaf, np.ndarray) or is_tensor(leaf)}
        self._owners = Counter(_owner(array) for array in arrays.values())
        self._owned: dict[Any, Any] = {}

    def copy(self, value: Any, place: str) -> Any:
        """A copy; raises EvaluatorError, naming the place, for a value that cannot be copied."""
        if value is None or isinstance(value, _IMMUTABLE):
            return value
        if id(value) not in self._memo:
            self._memo[id(value)] = self._copy_anew(value, place)
            self._alive.append(value)
        return self._memo[id(value)]

    def restore(self, value: Any, place: str) -> Any:
        """The copy of a value, made equal to it again; a copy that cannot be refilled is replaced by a new one."""
        if value is None or isinstance(value, _IMMUTABLE):
            return value
        made = self.copy(value, place)
        if _is_in_memory(value):
            if made.shape == value.shape:
                return _refill(made, value)
        elif type(value) is list:
            made[:] = [self.restore(item, f"{place}[{i}]") for i, item in enumerate(value)]
            return made
        elif type(value) is dict:
            items = {key: self.restore(item, f"{place}[{key!r}]") for key, item in value.items()}
            made.clear()
            made.update(items)
            return made
        elif type(value) is set:
            made.clear()
            made.update(value)
            return made
        elif type(value) is bytearray and len(made) == len(value):
            made[:] = value
            return made
        elif isinstance(value, tuple) and (type(value) is tuple or hasattr(value, "_fields")):
            parts = [self.restore(item, f"{place}[{i}]") for i, item in enumerate(value)]
            if all(a is b for a, b in zip(parts, made, strict=True)):
                return made
        del self._memo[id(value)]
        return self.copy(value, place)

    def _copy_anew(self, value: Any, place: str) -> Any:
        if _is_in_memory(value) and isinstance(value, np.ndarray):
            return self._array(value)
        if is_tensor(value) and str(value.layout) == "torch.strided":
            return self._tensor(value)
        if type(value) is list:
            return [self.copy(item, f"{place}[{i}]") for i, item in enumerate(value)]
        if type(value) is dict:
            return {key: self.copy(item, f"{place}[{key!r}]") for key, item in value.items()}
        if isinstance(value, tuple) and (type(value) is tuple or hasattr(value, "_fields")):
            items = [self.copy(item, f"{place}[{i}]") for i, item in enumerate(value)]
            return tuple(items) if type(value) is tuple else type(value)(*items)
        if isinstance(value, memoryview):
            raw = value.tobytes()
            made: Any = memoryview(raw if value.readonly else bytearray(raw))
            return made.cast(value.format, value.shape)
        try:
            return copy.deepcopy(value)
        except Exception as error:
            raise EvaluatorError(
                f"{place} is a {type(value).__qualname__}, which cannot be copied, and so not be restored between"
                f" configs ({type(error).__name__}: {error}); make it in `build`"
            ) from None

    def _array(self, array: np.ndarray[Any, Any]) -> Any:
        root = _root(array)
        if self._owners[_owner(array)] > 1 and (root.flags.c_contiguous or root.flags.f_contiguous):
            key = _owner(array)
            if key not in self._owned:
                self._owned[key] = root.copy(order="K").ravel(order="K")
            start = array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
            made = np.ndarray(array.shape, array.dtype, self._owned[key].data, start, array.strides)
        else:
            made = array.copy(order="K")
        made.flags.writeable = array.flags.writeable
        return made

    def _tensor(self, tensor: Any) -> Any:
        if self._owners[_owner(tensor)] < 2 or tensor.is_conj() or tensor.is_neg():
            return tensors.copy_tensor(tensor)
        import torch

        key = _owner(tensor)
        if key not in self._owned:
            self._owned[key] = tensor.untyped_storage().clone()
        made = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        made.set_(self._owned[key], tensor.storage_offset(), tensor.shape, tensor.stride())
        return made.requires_grad_(tensor.requires_grad)


def compute_checksum(value: Any) -> int:
    """A checksum of the arrays and tensors in a nested value."""
    total = 0
    for _, leaf in list_leaves(value):
        if isinstance(leaf, np.ndarray) and not leaf.dtype.hasobject and leaf.size:
            total = crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data, total)
        elif is_tensor(leaf):
            total = crc32(repr(tensors.compute_checksums({"": leaf})).encode(), total)
        elif isinstance(leaf, bytearray):
            total = crc32(leaf, total)
    return total


def is_same(a: Any, b: Any) -> bool:
    """Whether two values are equal, NaN being equal to NaN; objects without their own == are compared by attributes."""
    if isinstance(b, np.ma.MaskedArray):
        return isinstance(a, np.ma.MaskedArray) and all(
            is_same(x, y) for (_, x), (_, y) in zip(list_leaves(a), list_leaves(b), strict=True)
        )
    if isinstance(b, np.ndarray):
        return isinstance(a, np.ndarray) and a.shape == b.shape and a.dtype == b.dtype and _equal_arrays(a, b)
    if is_tensor(b):
        return is_tensor(a) and a.shape == b.shape and a.dtype == b.dtype and tensors.has_same_bits(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(b, list | tuple):
        return len(a) == len(b) and all(is_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(b, dict):
        return list(a) == list(b) and all(is_same(a[key], b[key]) for key in b)
    try:
        if has_equality(b) and not hasattr(b, "__dict__"):
            return bool(a == b) or bool(a != a and b != b)
        return is_same(_parts(a), _parts(b))
    except Exception:  # a foreign == may raise anything, and objects may refer to each other
        return True


def _parts(value: Any) -> dict[str, Any]:
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    return {**{name: getattr(value, name) for name in slots if hasattr(value, name)}, **getattr(value, "__dict__", {})}


def _equal_arrays(a: Any, b: Any) -> bool:
    if a.dtype.hasobject:
        return all(is_same(x, y) for x, y in zip(a.reshape(-1).tolist(), b.reshape(-1).tolist(), strict=True))
    return np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


def _is_in_memory(value: Any) -> bool:
    """Whether a value is an array or tensor that is restored in its memory."""
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject and not isinstance(value, np.ma.MaskedArray)
    return is_tensor(value) and str(value.layout) == "torch.strided"


def _can_refill(value: Any) -> bool:
    """Whether a nested value can be restored in place."""
    if value is None or isinstance(value, _IMMUTABLE) or _is_in_memory(value) or type(value) in (set, bytearray):
        return True
    if type(value) is dict:
        return all(map(_can_refill, value.values()))
    plain = type(value) in (list, tuple) or (isinstance(value, tuple) and hasattr(value, "_fields"))
    return plain and all(map(_can_refill, value))


def _refill(working: Any, pristine: Any) -> Any:
    if not isinstance(pristine, np.ndarray):
        tensors.restore(working, pristine)
    elif pristine.flags.writeable:
        working.flags.writeable = True
        np.copyto(working, pristine)
    return working


def _root(array: Any) -> Any:
    """The array that owns an array's memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _owner(array: Any) -> tuple[str, int]:
    """An identifier of the memory of an array or a tensor."""
    if isinstance(array, np.ndarray):
        return "numpy", id(_root(array))
    return "torch", array.untyped_storage().data_ptr() if str(array.layout) == "torch.strided" else id(array)
