"""The identity of a function: a digest of everything that determines its results, taken from the live objects alone.

The digest covers the function's byte code with its constants and inner functions, its defaults, the values that it
closes over, the values of the globals that it names, and everything that these reach in turn: functions and methods,
`functools.partial`, callable objects with their attributes and the methods of their classes. No file is read, so
neither the place of a function nor its comments count, and editing a file changes nothing in a process that has loaded
it. An object of an installed library counts by its name and the library's version.

Two functions with equal digests give equal results for equal arguments. Variables that a function writes itself (a
counter, a log, a dict of answers) count by their type alone. The digest is the same in every process of one version of
Python. An object whose content cannot be known (an open file, a lock, a generator) gets a token of its own, so that a
function that reaches it equals no other function in any process: such a function is not portable.
"""

import builtins
import copyreg
import dis
import functools
import logging
import re
import struct
import sys
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from types import (
    BuiltinFunctionType,
    CellType,
    ClassMethodDescriptorType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np

StandIn = Callable[[Any], Any]
"""From an object to plain data that stands for it, such as the source of a compiled kernel; None for other objects."""

_LIBRARY_FOLDERS = ("site-packages", "dist-packages")
_MUTATORS = {
    "add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "fill", "insert", "move_to_end", "pop",
    "popitem", "popleft", "put", "remove", "reverse", "setdefault", "sort", "subtract", "update", "write",
}  # fmt: skip
"""Methods of containers that change them."""

_NOT_IN_A_CLASS = {
    "__module__", "__doc__", "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__", "__annotations__",
    "__annotate__", "__annotate_func__", "__annotations_cache__", "__dataclass_fields__", "__dataclass_params__",
    "__abstractmethods__", "_abc_impl", "__orig_bases__", "__parameters__", "__type_params__", "__slotnames__",
}  # fmt: skip
"""Entries of a class that give its place, or repeat other entries."""

_CONTENT: tuple[type, ...] = (int, float, complex, str, bytes, bytearray, tuple, list, dict, set, frozenset)
_FIXED = (bool, int, float, complex, str, bytes, type(None))
_POINTER = struct.calcsize("P")
_MISSING = object()


@dataclass(frozen=True)
class ObjectIdentity:
    """digest: 32 hexadecimal digits. opaque: descriptions of the objects that it reaches that have no stable digest."""

    digest: str
    opaque: tuple[str, ...] = ()

    @property
    def portable(self) -> bool:
        """Whether another process can find the same digest."""
        return not self.opaque


def identify(value: Any, stand_in: StandIn | None = None, *, contents: bool = True) -> ObjectIdentity:
    """The identity of a function, or of any other value.

    stand_in: gives plain data for objects that the caller knows better, None for all others. contents: if False, values
    that may change from call to call (lists, dicts, objects) count by their type alone.
    """
    encoder = _Encoder(stand_in, contents)
    return ObjectIdentity(encoder.finish(value), tuple(dict.fromkeys(encoder.opaque)))


class WatchedIdentity:
    """A function's identity when this object is made, and a check whether it is still the same.

    If a function changes objects that it has no name for, such as its arguments, only the names that it reads are
    watched, and not the contents of containers.
    """

    def __init__(self, function: Any) -> None:
        self._function = function
        encoder = _Encoder(None, True)
        self.identity = ObjectIdentity(encoder.finish(function), tuple(dict.fromkeys(encoder.opaque)))
        self._bindings = encoder.bindings
        self._mutable = encoder.mutable and not encoder.writes and self.identity.portable

    def changed(self) -> str | None:
        """The name of a value that the function reads and that others have changed since; None if there is none."""
        moved = [one for one in self._bindings if one.now() is not one.was]
        for one in moved:
            if identify(one.was).digest != identify(one.now()).digest:
                return one.name
        if moved:  # equal, and other objects
            self._bindings = [_Binding(one.place, one.name, one.now()) for one in self._bindings]
        if self._mutable and identify(self._function).digest != self.identity.digest:
            return "an object that it reads"
        return None


@dataclass(frozen=True, eq=False)
class _Binding:
    """The value of a name that a function reads. place: the cell or the globals that hold it."""

    place: CellType | Mapping[str, Any]
    name: str
    was: Any

    def now(self) -> Any:
        if isinstance(self.place, CellType):
            return _cell(self.place)
        return self.place.get(self.name, getattr(builtins, self.name, _MISSING))


class _Encoder:
    """Writes values into a digest, each as a tag, a length and its content, so that different values never read alike.

    Objects that may be shared, or may contain themselves, are written once and then by their number in the order of the
    walk. bindings: the names read. mutable: whether any value may change in place. writes: whether a function may
    change objects that it has no name for.
    """

    def __init__(self, stand_in: StandIn | None, contents: bool) -> None:
        self.stand_in = stand_in
        self.contents = contents
        self.opaque: list[str] = []
        self.bindings: list[_Binding] = []
        self.mutable = False
        self.writes = False
        self._digest = blake2b(digest_size=16)
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []  # an id belongs to one object only as long as the object is kept

    def finish(self, value: Any) -> str:
        try:
            self._put_value(value)
        except RecursionError:
            self._put_opaque(value, "nested too deeply")
        return self._digest.hexdigest()

    def _put(self, tag: str, content: bytes | str = b"") -> None:
        data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        self._digest.update(f"{tag}:{len(data)}:".encode())
        self._digest.update(data)

    def _put_all(self, tag: str, values: Iterable[Any]) -> None:
        items = list(values)
        self._put(tag, str(len(items)))
        for item in items:
            self._put_value(item)

    def _put_items(self, tag: str, items: Mapping[Any, Any]) -> None:
        pairs = list(items.items())
        self._put(tag, str(len(pairs)))
        for name, value in pairs:
            self._put_value(name)
            self._put_value(value)

    def _put_unordered(self, tag: str, values: Iterable[Any]) -> None:
        """A set, in any order: the sorted digests of its members."""
        parts = []
        for value in values:
            part = _Encoder(self.stand_in, self.contents)
            part._seen, part._kept = dict(self._seen), self._kept
            parts.append(part.finish(value))
            self.opaque += part.opaque
        self._put(tag, ",".join(sorted(parts)))

    def _put_opaque(self, value: Any, why: str) -> None:
        self.opaque.append(why)
        self._put("opaque", _token(value))

    def _put_if_seen(self, value: Any) -> bool:
        """Whether this object was written before; if so, its number is written."""
        number = self._seen.get(id(value))
        if number is not None:
            self._put("again", str(number))
            return True
        self._seen[id(value)] = len(self._seen)
        self._kept.append(value)
        return False

    def _put_value(self, value: Any) -> None:
        kind = type(value)
        if value is None or kind is bool or value is Ellipsis or value is NotImplemented:
            self._put("constant", repr(value))
        elif kind is int or kind is str or kind is bytes or kind is float or kind is complex:
            self._put_plain(kind, value)
        elif kind is tuple:
            self._put_all("tuple", value)
        elif kind is frozenset:
            self._put_unordered("frozenset", value)
        elif self.stand_in is not None and (known := self.stand_in(value)) is not None:
            self._put("stand-in")
            self._put_value(known)
        elif isinstance(value, CodeType):
            self._put_code(value)
        elif isinstance(value, type):
            self._put_type(value)
        elif isinstance(value, ModuleType):
            self._put_module(value)
        elif not self._put_if_seen(value):
            self._put_object(kind, value)

    def _put_plain(self, kind: type, value: Any) -> None:
        if kind is float:
            self._put("float", struct.pack("<d", value))
        elif kind is complex:
            self._put("complex", struct.pack("<dd", value.real, value.imag))
        else:
            self._put(kind.__name__, value if kind is not int else hex(value))

    def _put_object(self, kind: type, value: Any) -> None:
        for kinds, tag, parts in _PARTS:
            if isinstance(value, kinds):
                self._put_all(tag, parts(value))
                return
        if isinstance(value, FunctionType):
            self._put_function(value)
        elif isinstance(value, MethodType):
            self._put("method")
            self._put_value(value.__func__)
            if isinstance(value.__self__, type) or self._put_if_seen(value.__self__):
                self._put_value(value.__self__)
            else:
                self._put_instance(type(value.__self__), value.__self__, _written_attributes(value.__func__))
        elif isinstance(value, BuiltinFunctionType):
            owner = value.__self__
            named = owner is None or isinstance(owner, ModuleType)
            self._put("builtin", _full_name(value) if named else value.__name__)
            if not named:
                self._put_value(owner)
        elif isinstance(value, np.ndarray | np.generic):
            self._put_array(kind, value)
        elif _is_library(kind.__module__) and isinstance(getattr(value, "__wrapped__", None), FunctionType):
            self._put("wrapper", _full_name(kind))  # such as lru_cache, whose memo does not count
            self._put_value(value.__wrapped__)
        else:
            self._put_instance(kind, value, _written_attributes(getattr(kind, "__call__", None)))  # noqa: B004

    # Functions

    def _put_function(self, function: FunctionType) -> None:
        if (named := _library_name(function)) is not None:
            self._put("library", named)
            return
        scan = _Scan(function.__code__)
        self.writes = self.writes or scan.writes
        self._put("function", function.__qualname__)
        self._put_code(function.__code__)
        self._put_value(function.__defaults__)
        self._put_value(function.__kwdefaults__)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self._put_named(cell, name, _cell(cell), scan)
        scope: Mapping[str, Any] = function.__globals__
        for name in sorted(scan.loaded):
            value = scope.get(name, _MISSING)
            self._put_named(scope, name, getattr(builtins, name, _MISSING) if value is _MISSING else value, scan)
        for name in sorted(scan.imported):
            if (module := sys.modules.get(name)) is not None:
                self._put_module(module, scan)
        if function.__dict__:
            self._put_items("attributes", function.__dict__)

    def _put_named(self, place: CellType | Mapping[str, Any], name: str, value: Any, scan: "_Scan") -> None:
        """The value of a name that a function reads; the type alone if the function writes it itself."""
        self._put("name", name)
        if value is _MISSING:
            self._put_opaque(place, f"the name {name}, which has no value yet")
        elif name in scan.written:
            self._put("written", _full_name(type(value)))
        else:
            self.bindings.append(_Binding(place, name, value))
            if isinstance(value, ModuleType):
                self._put_module(value, scan)
            else:
                self._put_value(value)

    def _put_code(self, code: CodeType) -> None:
        """Byte code and everything that determines its results, without its place."""
        self._put("code", code.co_qualname if sys.version_info >= (3, 11) else code.co_name)
        self._put("bytes", code.co_code)
        self._put("handlers", getattr(code, "co_exceptiontable", b""))
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        self._put("counts", repr(counts))
        for names in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
            self._put_all("names", names)
        self._put_all("constants", code.co_consts)

    def _put_module(self, module: ModuleType, scan: "_Scan | None" = None) -> None:
        """A library by its version; a module of the user by the attributes that a function may read."""
        self._put("module", module.__name__ if module.__name__ != "__main__" else "")
        if _is_library(module.__name__):
            self._put("version", _version(module.__name__))
        elif scan is None:
            self._put_opaque(module, f"the module {module.__name__} as a whole")
        elif not self._put_if_seen(module):
            self.mutable = True
            for name in sorted(scan.attributes & vars(module).keys()):
                self._put_named(vars(module), name, vars(module)[name], scan)

    # Classes and their objects

    def _put_type(self, kind: type) -> None:
        if not kind.__flags__ & (1 << 9) or _library_name(kind) is not None:  # built in, or a library's
            self._put("class", _library_name(kind) or _full_name(kind))
            return
        if self._put_if_seen(kind):
            return
        self.mutable = True
        self._put("class of the user", kind.__qualname__)
        self._put_all("bases", kind.__bases__)
        if type(kind) is not type:
            self._put_value(type(kind))
        if issubclass(kind, Enum):
            self._put_items("members", {name: member.value for name, member in kind.__members__.items()})
            entries = {n: v for n, v in vars(kind).items() if isinstance(v, FunctionType | property | classmethod)}
        else:
            entries = {n: v for n, v in vars(kind).items() if n not in _NOT_IN_A_CLASS}
        if hasattr(kind, "__struct_fields__"):
            self._put_all("fields", kind.__struct_fields__)
            self._put_all("defaults", map(_default, getattr(kind, "__struct_defaults__", ())))
            entries = {n: v for n, v in entries.items() if isinstance(v, FunctionType | property | classmethod)}
        self._put_items("entries", entries)

    def _put_instance(self, kind: type, value: Any, written: Collection[str] = ()) -> None:
        """written: attributes that the function in question sets itself, and that do not count."""
        self.mutable = True
        if not self.contents:
            self._put("changeable")
            self._put_value(kind)
            held = getattr(value, "__dict__", {}).items() if callable(value) else ()
            self._put_all(
                "fixed", ((name, one) for name, one in held if name not in written and isinstance(one, _FIXED))
            )
            return
        base: type = next((one for one in _CONTENT if isinstance(value, one)), object)
        library = _is_library(kind.__module__)
        if hasattr(kind, "__struct_fields__"):
            self._put("struct")
            self._put_value(kind)
            self._put_items("fields", {name: getattr(value, name, None) for name in kind.__struct_fields__})
        elif library and ("__reduce__" in _names_of(kind) or _holds_more(kind, base)):
            self._put_reduced(kind, value)
        elif _holds_more(kind, base):
            self._put_opaque(value, _type_text(value))
        else:
            self._put("object")
            self._put_value(kind)
            self._put_content(base, value)
            self._put_state(kind, value, written)

    def _put_content(self, base: type, value: Any) -> None:
        if base is dict:
            self._put_items("dict", dict(dict.items(value)))
        elif base in (list, tuple):
            self._put_all(base.__name__, base.__iter__(value))
        elif base in (set, frozenset):
            self._put_unordered(base.__name__, base.__iter__(value))
        elif base is bytearray:
            self._put("bytearray", bytes(value))
        elif base is str:
            self._put("str", str.__str__(value))
        elif base is not object:
            self._put_plain(base, base(value))

    def _put_state(self, kind: type, value: Any, written: Collection[str]) -> None:
        """The attributes and slots of an object."""
        held = getattr(value, "__dict__", None) or {}
        self._put_items("attributes", {name: one for name, one in held.items() if name not in written})
        slots = {name: getattr(value, name, "unset") for name in _slots(kind) if name not in written}
        if slots:
            self._put_items("slots", slots)

    def _put_reduced(self, kind: type, value: Any) -> None:
        """An object of a library by the parts of its pickle."""
        try:
            reduce = copyreg.dispatch_table.get(kind)
            parts: Any = value.__reduce_ex__(2) if reduce is None else reduce(value)
            if isinstance(parts, tuple):
                made, args, state, *rest = (*parts, None, None, None, None)[:5]
                parts = (made, args, state, *(None if more is None else tuple(more) for more in rest))
        except Exception:  # whatever a foreign object raises that cannot be pickled
            self._put_opaque(value, _type_text(value))
            return
        self._put("reduced", _full_name(kind))
        self._put_value(parts)

    def _put_array(self, kind: type, value: Any) -> None:
        self.mutable = True
        array = np.asarray(value)
        self._put("array", f"{array.dtype.str} {array.dtype.descr if array.dtype.names else ''} {array.shape}")
        if kind is not np.ndarray:
            self._put_value(kind)
            self._put_items("attributes", getattr(value, "__dict__", None) or {})
        if array.dtype.hasobject:
            self._put_all("items", array.ravel().tolist())
        else:
            self._put("bytes", array.tobytes())


_PARTS: tuple[tuple[Any, str, Callable[[Any], Iterable[Any]]], ...] = (
    (functools.partial, "partial", lambda v: (type(v), v.func, v.args, v.keywords, vars(v))),
    (functools.partialmethod, "partial method", lambda v: (v.func, v.args, v.keywords)),
    (functools.cached_property, "cached property", lambda v: (v.func,)),
    (staticmethod, "static method", lambda v: (v.__func__,)),
    (classmethod, "class method", lambda v: (v.__func__,)),
    (property, "property", lambda v: (v.fget, v.fset, v.fdel)),
    (
        (MethodDescriptorType, WrapperDescriptorType, ClassMethodDescriptorType),
        "descriptor",
        lambda v: (v.__name__, v.__objclass__),
    ),
    ((MemberDescriptorType, GetSetDescriptorType), "slot", lambda v: (v.__name__,)),
    (np.ufunc, "ufunc", lambda v: (v.__name__, np.__version__)),
    (re.Pattern, "pattern", lambda v: (v.pattern, v.flags)),
    (logging.Logger, "logger", lambda v: (v.name,)),
    (MappingProxyType, "mapping proxy", lambda v: (dict(v),)),
    (CellType, "cell", lambda v: (_cell(v),)),
    (weakref.ref, "weak", lambda v: (v(),)),
    (Enum, "member", lambda v: (v.name, type(v))),
)
"""Types whose objects are determined by a few other values."""

_tokens: dict[int, tuple["weakref.ref[Any]", str]] = {}


def _token(value: Any) -> str:
    """A name that no other object has in any process. It determines no draw and no order, only inequality."""
    kept = _tokens.get(id(value))
    if kept is not None and kept[0]() is value:
        return kept[1]
    token, key = uuid4().hex, id(value)
    with suppress(TypeError):  # an object without weak references gets another token each time
        _tokens[key] = (weakref.ref(value, lambda _: _tokens.pop(key, None)), token)
    return token


class _Scan:
    """How byte code uses the names in it, inner functions included.

    loaded: names that it reads as globals. imported: modules. attributes: all names, attributes included.
    written: globals and outer variables that it sets, or whose content it changes. written_attributes: attributes that
    it sets or whose content it changes. writes: whether it may change an object that it has no name for.
    """

    def __init__(self, code: CodeType) -> None:
        self.loaded: set[str] = set()
        self.imported: set[str] = set()
        self.attributes: set[str] = set()
        self.written: set[str] = set()
        self.written_attributes: set[str] = set()
        self.writes = False
        self._read(code)

    def _read(self, code: CodeType) -> None:
        self.attributes.update(code.co_names)
        instructions = list(dis.get_instructions(code))
        for one in instructions:
            if one.opname in _GLOBALS:
                self.loaded.add(one.argval)
            elif one.opname == "IMPORT_NAME":
                self.imported.add(one.argval)
            elif one.opname in ("STORE_GLOBAL", "DELETE_GLOBAL") or (
                one.opname == "STORE_DEREF" and one.argval in code.co_freevars
            ):
                self.written.add(one.argval)
            elif one.opname in ("STORE_ATTR", "DELETE_ATTR"):
                self.written_attributes.add(one.argval)
            elif one.opname in ("STORE_SUBSCR", "DELETE_SUBSCR") or _mutates(one):
                self._note_change(one, instructions)
        for inner in code.co_consts:
            if isinstance(inner, CodeType):
                self._read(inner)

    def _note_change(self, change: dis.Instruction, instructions: list[dis.Instruction]) -> None:
        """Note the object that an instruction changes: the first name of its expression, such as `self.seen[x]`."""
        begins = _start(change)
        read = [one for one in instructions if begins is not None and one is not change and _start(one) == begins]
        names = {one.argval for one in read if one.opname in _GLOBALS or one.opname == "LOAD_DEREF"}
        attributes = [one for one in read if one.opname == "LOAD_ATTR" and not _mutates(one)]
        if attributes:  # the first one, which is of the object itself
            self.written_attributes.add(min(attributes, key=_end).argval)
        elif names:
            self.written |= names
        else:
            self.writes = True


_GLOBALS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}


def _mutates(one: dis.Instruction) -> bool:
    return one.opname in ("LOAD_METHOD", "LOAD_ATTR") and one.argval in _MUTATORS


def _start(one: dis.Instruction) -> tuple[int, int] | None:
    """The line and column at which the expression of an instruction begins; compared with others' only."""
    at = one.positions
    return None if at is None or at.lineno is None or at.col_offset is None else (at.lineno, at.col_offset)


def _end(one: dis.Instruction) -> tuple[int, int]:
    at = one.positions
    return (0, 0) if at is None else (at.end_lineno or 0, at.end_col_offset or 0)


def _written_attributes(function: Any) -> Collection[str]:
    return _Scan(function.__code__).written_attributes if isinstance(function, FunctionType) else ()


def _default(given: Any) -> Any:
    """The default of a Struct's field: a value, its factory, or "none"."""
    return "none" if given is msgspec.NODEFAULT else (given.factory,) if type(given).__name__ == "Factory" else given


def _cell(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return _MISSING


def _type_text(value: Any) -> str:
    kind = type(value)
    return f"an object of the type {kind.__qualname__ if kind.__module__ == 'builtins' else _full_name(kind)}"


def _full_name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _library_name(value: Any) -> str | None:
    """The name and version of a function or class that an installed library has under its name; None for others."""
    home = getattr(value, "__module__", None)
    if not isinstance(home, str) or not _is_library(home):
        return None
    found: Any = sys.modules.get(home)
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return f"{_full_name(value)} {_version(home)}" if found is value else None


def _is_library(module: Any) -> bool:
    """Whether a module belongs to Python or to an installed package."""
    if not isinstance(module, str):
        return False
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return top != "__main__"
    file = getattr(sys.modules.get(top), "__file__", None)
    return isinstance(file, str) and any(folder in file for folder in _LIBRARY_FOLDERS)


def _version(module: str) -> str:
    top = module.partition(".")[0]
    version = getattr(sys.modules.get(top), "__version__", None)
    return version if isinstance(version, str) and top not in sys.stdlib_module_names else ""


def _names_of(kind: type) -> set[str]:
    """The names that the classes above `object` define."""
    return set().union(*(vars(one) for one in kind.__mro__[:-1]))


def _slots(kind: type) -> list[str]:
    found = []
    for one in reversed(kind.__mro__):
        given = vars(one).get("__slots__", ())
        for name in (given,) if isinstance(given, str) else tuple(given):
            if name not in ("__dict__", "__weakref__"):
                hidden = name.startswith("__") and not name.endswith("__")
                found.append(f"_{one.__name__.lstrip('_')}{name}" if hidden else name)
    return found


def _holds_more(kind: type, base: type) -> bool:
    """Whether objects of a class hold more than attributes, slots and the content of `base`, by copyreg's rule."""
    known = len(_slots(kind)) + (kind.__dictoffset__ != 0) + (kind.__weakrefoffset__ != 0)
    return kind.__basicsize__ > base.__basicsize__ + _POINTER * known
