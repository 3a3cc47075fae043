"""`autotune.triton.install()`: all kernels under `triton.autotune` run under `autotune.triton`.

Triton's class `Autotuner` gets another `run`. It makes a tuned kernel from the settings of each autotuner at its first
launch. So it does not matter whether a library was imported before or after, who else refers to the kernel, and which
classes were derived from Triton's, as long as their `run` ends in that of the base class. A kernel that cannot be
replaced runs as before.
"""

import gc
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import wraps
from importlib.util import find_spec
from itertools import accumulate
from types import FunctionType, ModuleType, TracebackType
from typing import Any, Self, Unpack
from weakref import WeakValueDictionary

from autotune._extras import install_command
from autotune.backends.triton.compiler import expect_launches
from autotune.backends.triton_decorator.call_key import rounding_rules
from autotune.backends.triton_decorator.decorator import kernel_decorator
from autotune.backends.triton_decorator.import_hook import AUTOTUNER_MODULE, ImportHook, when_imported
from autotune.backends.triton_decorator.options import MeasureOptions
from autotune.backends.triton_decorator.replacement import KernelOptions, Replacement
from autotune.backends.triton_decorator.report import print_at_exit
from autotune.core.errors import AutotuneError, PlanError
from autotune.core.formatting import describe_error, format_count
from autotune.shell.settings import environment, resolve_setting

_ATTRIBUTE = "_autotune_replacement"
"""The attribute of an autotuner that holds its `Replacement`, or None where it is left alone."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Installation:
    """`autotune.triton` in the place of `triton.autotune`; a context manager, whose end undoes it.

    only, skip: patterns of modules. options: of the decorator, for all kernels.
    """

    only: tuple[str, ...] | None
    skip: tuple[str, ...]
    options: KernelOptions

    def covers(self, module: str) -> bool:
        """Whether kernels of a module are taken over. A pattern matches a module and everything inside of it."""
        packages = list(accumulate(module.split("."), lambda outer, inner: f"{outer}.{inner}"))

        def matches(patterns: Iterable[str]) -> bool:
            return any(fnmatchcase(package, pattern) for pattern in patterns for package in packages)

        return (self.only is None or matches(self.only)) and not matches(self.skip)

    def undo(self) -> None:
        """Undo this installation, and leave others as they are. Undoing it twice changes nothing."""
        with _lock:
            if self in _installations:
                _installations.remove(self)
                _withdraw_replacements()
                if not _installations:
                    _restore_class()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


def install(
    *,
    only: str | Sequence[str] | None = None,
    skip: str | Sequence[str] | None = None,
    report: bool | None = None,
    **options: Unpack[KernelOptions],
) -> Installation:
    """Put `autotune.triton` in the place of `triton.autotune`, also for kernels that were decorated before.

    only, skip: names of modules whose kernels are taken over, or left alone, with those of the modules inside; they may
    have wildcards, as "fla.ops.*". report: print what was tuned when the program ends. options: of the decorator, for
    every kernel (bucket, mode, miss, hull, strategy, effort, budget, seed, settings, progress, cache, isolation); a
    list that has no hull is tried as a whole. Arguments that are left out are taken from the environment first:
    AUTOTUNE_TRITON_ONLY, AUTOTUNE_TRITON_SKIP, AUTOTUNE_TRITON_HULL, AUTOTUNE_TRITON_REPORT.

    The result is a context manager, whose end undoes the installation; `uninstall` does so, too. Of several
    installations the latest counts. Triton is not imported here. Raises PlanError where it is not installed, and for
    options that no kernel can have.
    """
    env = environment()
    if "hull" not in options and env.triton_hull is not None:
        options["hull"] = env.triton_hull
    _check_options(options)
    made = Installation(
        only=resolve_setting(_patterns("only", only), env.triton_only, None),
        skip=resolve_setting(_patterns("skip", skip), env.triton_skip, ()),
        options=options,
    )
    if AUTOTUNER_MODULE not in sys.modules and find_spec("triton") is None:
        raise PlanError(f"Triton is not installed, so no kernel can be taken over; {install_command('triton')}")
    with _lock:
        _withdraw_replacements()
        _installations.append(made)
        if len(_installations) == 1:
            _patch.hook = when_imported(AUTOTUNER_MODULE, _replace_methods)
        _tell_libraries(made)
    if resolve_setting(report, env.triton_report, False):
        print_at_exit()
    return made


def uninstall() -> None:
    """Undo all installations: Triton's classes are as they were, and its autotuners tune again. Results are kept on
    disk."""
    with _lock:
        while _installations:
            _installations[-1].undo()


_lock = threading.RLock()
_installations: list[Installation] = []
"""The latest is last."""
_autotuners: WeakValueDictionary[int, Any] = WeakValueDictionary()
"""The autotuners that have a replacement, or were left alone, by their `id`."""
_told: set[str] = set()
"""The libraries of which a line has said that their kernels were taken over, and the classes of `_unclear`."""
_unclear: set[type] = set()
"""Classes with a `run` of which only a launch shows whether it calls Triton's, and none has shown it yet."""


@dataclass(eq=False)
class _Patch:
    """Triton's class with its own methods and those in their place, by name; or the hook that waits for the class.

    found: all its instances by their `id`. A search among all objects of a program takes a third of a second where
    torch and a library are loaded, so one is made at the start, and later instances are added as they are made.
    """

    hook: ImportHook | None = None
    base: Any = None
    original: dict[str, Any] = field(default_factory=dict)
    placed: dict[str, Any] = field(default_factory=dict)
    found: "WeakValueDictionary[int, Any]" = field(default_factory=WeakValueDictionary)


_patch = _Patch()


def _check_options(options: KernelOptions) -> None:
    """Raises PlanError for a value that no kernel can have."""
    odd = options.keys() - KernelOptions.__annotations__.keys()
    if odd:
        raise PlanError(
            f"install has no option {', '.join(map(repr, sorted(odd)))}; there are only, skip, report and"
            f" {', '.join(KernelOptions.__annotations__)}"
        )
    kernel_decorator((), **options)
    MeasureOptions(isolation=options.get("isolation"))
    rounding_rules(options.get("bucket"), ("key",))


def _patterns(option: str, given: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    patterns = (given,) if isinstance(given, str) else given
    if not isinstance(patterns, Sequence) or not all(isinstance(one, str) for one in patterns):
        raise PlanError(f"{option} is {given!r}; give names of modules, or patterns of such names")
    return tuple(patterns)


def _replace_methods(module: ModuleType) -> None:
    """Give Triton's class another `run`, and a constructor that remembers the instance."""
    with _lock:
        _patch.hook = None
        if not _installations:
            return
        base: Any = module.Autotuner
        original, construct = base.run, base.__init__

        @wraps(construct)
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            construct(self, *args, **kwargs)
            _patch.found[id(self)] = self

        @wraps(original)
        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            own = self.__dict__
            if _ATTRIBUTE not in own:
                _place(self)
            place = own.get(_ATTRIBUTE)
            if place is None:
                return original(self, *args, **kwargs)
            if place.configs is not self.configs or place.cache is not self.cache:
                _remove(self)
                return run(self, *args, **kwargs)
            result = place.tuned.run(*args, **kwargs)
            self.best_config = place.tuned.best_config
            return result

        _patch.base = base
        _patch.original = {"run": original, "__init__": construct}
        _patch.placed = {"run": run, "__init__": init}
        for name, method in _patch.placed.items():
            setattr(base, name, method)
        # By their type: objects may lie about their class.
        _patch.found.update({id(one): one for one in gc.get_objects() if issubclass(type(one), base)})
    expect_launches()


def _restore_class() -> None:
    if _patch.hook is not None:
        _patch.hook.remove()
    for name, method in _patch.placed.items():
        if getattr(_patch.base, name) is method:  # else another tool has replaced it since
            setattr(_patch.base, name, _patch.original[name])
    _patch.hook = _patch.base = None
    _patch.original, _patch.placed = {}, {}
    _patch.found.clear()
    _told.clear()
    _unclear.clear()


def _place(autotuner: Any) -> None:
    """Decide at the first launch of an autotuner what stands in its place."""
    with _lock:
        if _ATTRIBUTE in vars(autotuner):
            return  # another thread was faster
        place: Replacement | None = None
        made, module = (_installations[-1] if _installations else None), _module_of(autotuner)
        if made is not None and made.covers(module):
            if _library(module) not in _told:
                _tell_libraries(made)
            if type(autotuner) in _unclear:
                _tell_class(made, type(autotuner))
            try:
                place = Replacement(autotuner, _patch.base, made.options)
            except Exception as error:  # of foreign classes: any
                reason = str(error) if isinstance(error, AutotuneError) else describe_error(error)
                _say(made, f"{_name_of(autotuner)} stays under triton.autotune: {reason}")
            else:
                if place.note is not None:
                    _say(made, f"{_name_of(autotuner)}: its list is tried as a whole: {place.note}")
        vars(autotuner)[_ATTRIBUTE] = place
        _autotuners[id(autotuner)] = autotuner


def _remove(autotuner: Any) -> None:
    with _lock:
        place = vars(autotuner).pop(_ATTRIBUTE, None)
        if place is not None:
            place.withdraw()


def _withdraw_replacements() -> None:
    for autotuner in list(_autotuners.values()):
        _remove(autotuner)
    _autotuners.clear()


def _tell_libraries(made: Installation) -> None:
    """One line with the libraries whose kernels are taken over and were not told before, and one for each class of
    which that is not known before a launch."""
    found = [one for one in list(_patch.found.values()) if made.covers(_module_of(one))]
    unclear = {kind for kind in map(type, found) if not _calls_base(kind, _patch.base)}
    counts = Counter(_library(_module_of(one)) for one in found if type(one) not in unclear)
    new = {library: count for library, count in sorted(counts.items()) if library not in _told}
    _told.update(new)
    if new:
        listed = ", ".join(f"{format_count(count, 'kernel')} of {library}" for library, count in new.items())
        _say(made, f"in the place of triton.autotune: {listed}")
    for kind, count in Counter(type(one) for one in found if type(one) in unclear).items():
        name = _name_of_class(kind)
        if name not in _told:
            _told.add(name)
            _unclear.add(kind)
            _say(made, f"{format_count(count, 'kernel')} of {name}: taken over only if that class's run calls Triton's")


def _tell_class(made: Installation, kind: type) -> None:
    """A launch has come from the `run` of this class to Triton's."""
    _unclear.discard(kind)
    _say(made, f"in the place of triton.autotune: the kernels of {_name_of_class(kind)}")


def _calls_base(kind: type, base: type) -> bool:
    """Whether the code of a class shows that its `run` calls Triton's: by `super` or by a name that is bound to a class
    above it. Other ways are not seen."""
    above = set(kind.__mro__)
    for one in kind.__mro__[: kind.__mro__.index(base)]:
        run = vars(one).get("run")
        if run is None:
            continue
        if not isinstance(run, FunctionType) or "run" not in run.__code__.co_names:
            return False
        names = {*run.__code__.co_names, *run.__code__.co_freevars}
        bound = {**run.__globals__, **_enclosed(run)}
        if not {"super", base.__name__} & names and not any(
            isinstance(bound.get(name), type) and bound[name] in above for name in names
        ):
            return False
    return True


def _enclosed(function: FunctionType) -> dict[str, Any]:
    """The variables of enclosing functions that a function uses, as far as they have a value."""
    found: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # empty
            found[name] = cell.cell_contents
    return found


def _name_of_class(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _module_of(autotuner: Any) -> str:
    function = getattr(autotuner, "base_fn", None)
    return str(getattr(function, "__module__", None) or type(autotuner).__module__)


def _name_of(autotuner: Any) -> str:
    function = getattr(autotuner, "base_fn", autotuner)
    return f"{_module_of(autotuner)}.{getattr(function, '__qualname__', type(autotuner).__qualname__)}"


def _library(module: str) -> str:
    return module.partition(".")[0]


def _say(made: Installation, text: str) -> None:
    """Print a line on stderr, where progress is shown."""
    progress = resolve_setting(made.options.get("progress"), environment().progress, True)
    if progress is not False and sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(f"autotune: {text}", file=sys.stderr, flush=True)
