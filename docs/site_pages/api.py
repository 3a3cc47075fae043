"""The pages of the API: every public name once, grouped by subject."""

import inspect
from collections.abc import Sequence
from importlib import import_module

from site_pages import rst
from site_pages.docstrings import data_docstring, parameters_of, to_rst, written_signature
from site_pages.names import MODULES, PublicName, exists, names_of, public_names

SUBJECTS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    (
        "tuning", "Tune, resume, replay", "A whole search in one call, and its result.",
        ("autotune.shell.tuning", "autotune.shell.replay", "autotune.core.search.result", "autotune.core.search.plan",
         "autotune.core.statistics"),
    ),
    (
        "spaces", "Spaces and configs", "The set of configs that a search considers.",
        ("autotune.core.space", "autotune.core.config", "autotune.core.parameters", "autotune.core.kernels",
         "autotune.shell.files"),
    ),
    (
        "evaluators", "Evaluators", "How configs are built, checked and timed.",
        ("autotune.shell.evaluators", "autotune.backends.triton.", "autotune.backends.command",
         "autotune.core.outcomes"),
    ),
    ("triton", "autotune.triton", "The decorator of Triton kernels.", ("autotune.backends.triton_decorator",)),
    (
        "strategies", "Strategies", "The algorithms that propose configs. Every field is a setting.",
        ("autotune.core.strategies", "autotune.core.models"),
    ),
    (
        "search", "The search by hand", "The search as a value, its tasks and its events.",
        ("autotune.shell.ask_tell", "autotune.shell.plans", "autotune.core.search"),
    ),
    ("cache", "The cache", "Measurements that are kept between searches.", ("autotune.shell.cache",)),
    ("configs", "Files of configs", "Tuned configs of other libraries, and seeds.", ("autotune.interop",)),
    ("errors", "Errors", "Every error that the library raises on purpose.", ("autotune.core.errors",)),
)  # fmt: skip
"""Pages of the names of `autotune`: file, title, first sentence, and the modules whose names they hold. The first page
that holds a module counts."""

ELSE = ("settings", "Settings and the rest", "The environment, and names that belong to no other page.")
"""The page of all other names."""

TITLES = {
    "autotune.strategies": "autotune.strategies: parts of a strategy",
    "autotune.evaluators": "autotune.evaluators: parts of an evaluator",
    "autotune.studies": "autotune.studies: recordings and studies",
    "autotune.testing": "autotune.testing: suites of laws",
    "autotune.helion": "autotune.helion",
    "autotune.kernel_tuner": "autotune.kernel_tuner",
    "autotune.optuna": "autotune.optuna",
    "autotune.ray": "autotune.ray",
    "autotune.viewer": "autotune.viewer",
}


def pages() -> dict[str, str]:
    found = {}
    entries = []
    rest = list(names_of("autotune"))
    for file, title, sentence, homes in SUBJECTS:
        own = [name for name in rest if name.home.startswith(homes)]
        rest = [name for name in rest if name not in own]
        own.sort(key=lambda name: (name.kind != "function", [not name.home.startswith(home) for home in homes]))
        found[f"api_{file}.rst"] = page(title, sentence, own)
        entries.append((f"api_{file}", title, own))
    found[f"api_{ELSE[0]}.rst"] = page(ELSE[1], ELSE[2], rest)
    entries.append((f"api_{ELSE[0]}", ELSE[1], rest))
    for module in TITLES:
        if module in MODULES or exists(module):
            file = "module_" + module.partition(".")[2]
            found[f"{file}.rst"] = module_page(module)
            entries.append((file, TITLES[module], names_of(module)))
    found["api.rst"] = overview(entries)
    return found


def overview(entries: Sequence[tuple[str, str, Sequence[PublicName]]]) -> str:
    """The table of all names."""
    rows = [
        (f":doc:`{title} <{file}>`", ", ".join(f":py:obj:`{name.name} <{shown(name).path}>`" for name in names))
        for file, title, names in entries
    ]
    text = (
        "Everything that programs may rely on. The names of the first pages are imported from ``autotune``, the others "
        "from the module that the title names. Any other module may change between versions."
    )
    parts = [rst.heading("The API"), text, "", rst.table(["page", "names"], rows)]
    return "\n".join([*parts, rst.toctree(file for file, _, _ in entries)])


def shown(name: PublicName) -> PublicName:
    """The entry under which the reference shows this name."""
    return next(one for one in public_names().values() if (one.home, one.own) == (name.home, name.own))


def page(title: str, sentence: str, names: Sequence[PublicName]) -> str:
    parts = [rst.heading(title), sentence, "", ".. py:currentmodule:: autotune", ""]
    return "\n".join([*parts, *map(entry, names)])


def module_page(module: str) -> str:
    names = names_of(module)
    own = [name for name in names if shown(name).path == name.path]
    others = [name for name in names if name not in own]
    doc = inspect.getdoc(import_module(module)) or ""
    parts = [rst.heading(TITLES[module]), to_rst(doc, ()), "", f".. py:module:: {module}", ""]
    if others:
        links = ", ".join(f":py:obj:`{name.name} <{shown(name).path}>`" for name in others)
        parts += [f"Also here, and described elsewhere: {links}.", ""]
    return "\n".join([*parts, *map(entry, own)])


def entry(name: PublicName) -> str:
    match name.kind:
        case "class":
            return rst.directive("autoclass", name.path, options=[":members:"])
        case "exception":
            return rst.directive("autoexception", name.path, options=[":members:", ":show-inheritance:"])
        case "function" if getattr(import_module(name.path.rpartition(".")[0]), name.name) is not name.value:
            return hidden_function(name)
        case "function":
            return rst.directive("autofunction", name.path)
        case "decorator":
            return decorator_entry(name)
    module = name.path.rpartition(".")[0]
    text = to_rst(data_docstring(name.home, name.own), ())
    return rst.directive("py:data", name.name, text, options=[f":module: {module}"])


def hidden_function(name: PublicName) -> str:
    """A function that a module of the same name hides from autodoc."""
    signature, returned = written_signature(name.value) or ("()", None)
    arrow = f" -> {returned}" if returned else ""
    text = to_rst(inspect.getdoc(name.value) or "", parameters_of(name.value))
    options = [f":module: {name.path.rpartition('.')[0]}"]
    return rst.directive("py:function", f"{name.name}{signature}{arrow}", text, options=options)


def decorator_entry(name: PublicName) -> str:
    """An object that is called, with functions of its own."""
    kind = type(name.value)
    functions = [member for member in vars(kind) if not member.startswith("_")]
    methods = [rst.directive("autofunction", f"{name.path}.{member}") for member in functions]
    return "\n".join([rst.directive("autofunction", name.path), *methods])
