"""Modules that list their public names once, for type checkers, and import each of them on first use (PEP 562).

The list is the `if TYPE_CHECKING:` block of the module, read from its source when the first name is asked for. So
`import autotune` costs a program next to nothing: this module imports nothing, not even `typing`.
"""

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any


def lazy_names(
    module_name: str, *, eager: "Collection[str]" = (), unstarred: "Collection[str]" = (), extra: str = ""
) -> "tuple[Callable[[str], object], Callable[[], list[str]]]":
    """The `__getattr__` and `__dir__` of a module.

    eager: public names that the module imports by itself. unstarred: names that `from module import *` leaves out.
    extra: the extra of this package that installs the libraries of these names; an ImportError names it.
    """
    homes: dict[str, str] = {}

    def list_names() -> list[str]:
        import ast
        from importlib import import_module

        if not homes:
            loader: Any = import_module(module_name).__loader__
            blocks = [node for node in ast.parse(loader.get_source(module_name)).body if isinstance(node, ast.If)]
            imports = [node for node in blocks[0].body if isinstance(node, ast.ImportFrom)]
            homes.update({alias.name: str(node.module) for node in imports for alias in node.names})
        return sorted({*eager, *homes})

    def get_name(name: str) -> object:
        if name == "__all__":
            return [public for public in list_names() if public not in unstarred]
        if name not in list_names():
            raise AttributeError(f"module {module_name!r} has no attribute {name!r}")
        from importlib import import_module

        from autotune._extras import install_command

        try:
            value = getattr(import_module(homes[name]), name)
        except ImportError as error:
            if not extra or (error.name or "").startswith("autotune"):
                raise
            raise ImportError(f"{module_name} needs {error.name}; {install_command(extra)}") from error
        setattr(import_module(module_name), name, value)
        return value

    return get_name, list_names
