"""autotune finds the fastest configuration of a kernel.

The search is a pure function of the measurements so far (`autotune.core`); a thin shell compiles, times and writes
files (`autotune.shell`). In one line: `tune(space, evaluator, strategy)`.

`__init__.pyi` lists the public names, for type checkers and for this module, which imports each one when it is first
used: `import autotune` costs a program next to nothing.
"""

_UNSTARRED = {"triton"}
"""Left out of `from autotune import *`, where it would hide Triton's own name."""

_modules: dict[str, str] = {}
"""The module of each public name; empty until the first of them is used."""


def _read_stub() -> dict[str, str]:
    import ast
    import pkgutil

    if not _modules:
        statements = ast.parse(pkgutil.get_data(__name__, "__init__.pyi") or b"").body
        imports = [statement for statement in statements if isinstance(statement, ast.ImportFrom)]
        _modules.update({alias.name: str(statement.module) for statement in imports for alias in statement.names})
    return _modules


def __getattr__(name: str) -> object:
    if name == "__all__":
        return sorted(_read_stub().keys() - _UNSTARRED)
    module = _read_stub().get(name)
    if module is None:
        raise AttributeError(f"module 'autotune' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_read_stub())
