"""Docstrings of this library as reStructuredText, and signatures as they stand in the source.

A docstring is plain text: paragraphs, indented code, and sentences such as "seconds: on the evaluator's clock", which
describe the parameter or the field of that name. These become a list of definitions; names in backticks become links.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Collection
from functools import cache
from typing import Any

from sphinx.application import Sphinx

from site_pages.names import by_last_name, public_names, source_of
from site_pages.rst import escape

FIELD = re.compile(r"(?:^|(?<=[.;:)] )|(?<=\. \n))((?:\w+(?:_\*)?)(?:, \w+(?:_\*)?)*): ")
CODE = re.compile(r"`([^`\n]+)`")
ROLES = {"class": "class", "exception": "exc", "function": "func", "data": "data", "decorator": "func"}


def connect(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", rewrite_docstring)
    app.connect("autodoc-process-signature", rewrite_signature)


def rewrite_docstring(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    lines[:] = to_rst("\n".join(lines), parameters_of(called(value))).splitlines()


def rewrite_signature(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None] | None:
    if what in ("attribute", "property", "data", "module"):
        return None
    if isinstance(value, type) and issubclass(value, BaseException):
        return None
    if isinstance(value, type) and getattr(value, "_is_protocol", False):
        return "", None
    return written_signature(called(value))


def called(value: Any) -> Any:
    """What a call of the value runs: of the decorator's object, its `__call__`."""
    return value.__call__ if type(value).__name__ == "TritonDecorator" else value


def parameters_of(value: Any) -> tuple[str, ...]:
    try:
        names = [*inspect.signature(value).parameters]
    except (TypeError, ValueError):
        names = []
    fields = [name for kind in getattr(value, "__mro__", ()) for name in vars(kind).get("__annotations__", ())]
    return tuple(dict.fromkeys([*names, *fields]))


# --- text


def to_rst(text: str, parameters: Collection[str]) -> str:
    """A cleaned docstring, with the parameters or fields that it may describe."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", text):
        lines = paragraph.splitlines()
        if not lines:
            continue
        if lines[0].startswith(">>>"):
            parts.append(paragraph)
        elif all(line.startswith("    ") for line in lines):
            parts.append("::\n\n" + textwrap.indent(textwrap.dedent(paragraph), "   "))
        else:
            parts.append(_prose(lines, parameters))
    return "\n\n".join(parts) + "\n"


def _prose(lines: list[str], parameters: Collection[str]) -> str:
    """A paragraph: sentences, and the fields that it describes."""
    if any(re.match(r"[-*] |\d+\. ", line) for line in lines):
        return "\n".join(map(inline, lines))
    text = " ".join(line.strip() for line in lines)
    pieces, at = [], 0
    fields = [found for found in FIELD.finditer(text) if _all_known(found[1], parameters)]
    if not fields:
        return inline(text)
    if fields[0].start():
        pieces.append(inline(text[: fields[0].start()].strip()) + "\n")
    rest = ""
    for at, found in enumerate(fields):
        end = fields[at + 1].start() if at + 1 < len(fields) else len(text)
        meaning = text[found.end() : end].strip()
        if (last := re.search(r"(?<=\. )(Raises|Returns) ", meaning)) is not None and at + 1 == len(fields):
            meaning, rest = meaning[: last.start()].strip(), meaning[last.start() :]
        names = ", ".join(f"``{name}``" for name in found[1].split(", "))
        pieces.append(f"{names}\n   {inline(meaning)}")
    if rest:
        pieces.append("\n" + inline(rest))
    return "\n".join(pieces)


def _all_known(names: str, parameters: Collection[str]) -> bool:
    return all(
        name in parameters or (name.endswith("_*") and any(known.startswith(name[:-1]) for known in parameters))
        for name in names.split(", ")
    )


def inline(text: str) -> str:
    """Text with its backticks as code or as links, names of errors as links, and everything else without markup."""
    parts = CODE.split(text)
    return "".join(link(part) if position % 2 else _names(part) for position, part in enumerate(parts))


def link(text: str) -> str:
    """A name of the API as a link, anything else as code."""
    bare = text.removesuffix("()").removeprefix("autotune.")
    if (path := by_last_name().get(bare)) is not None:
        return f":py:{ROLES[public_names()[path].kind]}:`{bare} <{path}>`"
    return f"``{text}``"


def _names(text: str) -> str:
    """Prose in which the names of public errors, which need no backticks, are links."""
    parts = re.split(r"\b([A-Z]\w+Error|TuningFailed)\b", text)
    return "".join(_error(part) if position % 2 else escape(part) for position, part in enumerate(parts))


def _error(name: str) -> str:
    role = link(name) if name in by_last_name() else name
    return role if not role.startswith(":") else role + "\\ "


@cache
def data_docstring(module: str, name: str) -> str:
    """The string after the assignment of a name, or the name's definition where there is none."""
    body = source_of(module).body
    for node, following in zip(body, [*body[1:], ast.Pass()], strict=True):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                return inspect.cleandoc(str(following.value.value))
            return f"`{ast.unparse(node.value)}`" if isinstance(node, ast.Assign | ast.AnnAssign) and node.value else ""
        if isinstance(node, ast.ImportFrom) and any((alias.asname or alias.name) == name for alias in node.names):
            return data_docstring(str(node.module), next(a.name for a in node.names if (a.asname or a.name) == name))
    return ""


# --- signatures


def written_signature(value: Any) -> tuple[str, str | None] | None:
    """The signature with the annotations as the source writes them; None where the source is not at hand."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return None
    written = _class_annotations(value) if isinstance(value, type) else {}
    if not written:
        written = _function_annotations(value.__init__ if isinstance(value, type) else value)
    parts, starred = [], False
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        name = parameter.name
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            name, starred = f"*{name}", True
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            name = f"**{name}"
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        kind = written.get(parameter.name, "")
        text = f"{name}: {kind}" if kind else name
        if parameter.default is not inspect.Parameter.empty:
            text += (" = " if kind else "=") + _default(parameter.default)
        parts.append(text)
    returned = written.get("return") if not isinstance(value, type) else None
    return f"({', '.join(parts)})", returned


def _default(value: object) -> str:
    text = repr(value)
    return "..." if text.startswith("<") or " at 0x" in text else text


def _function_annotations(function: Any) -> dict[str, str]:
    try:
        node = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return {}
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return {}
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    found = {one.arg: _annotation(one.annotation) for one in arguments if one is not None and one.annotation}
    return found | ({"return": _annotation(node.returns)} if node.returns is not None else {})


def _class_annotations(kind: type) -> dict[str, str]:
    """Of a Struct or a dataclass: the fields of the class and its bases."""
    if not hasattr(kind, "__struct_fields__") and not hasattr(kind, "__dataclass_fields__"):
        return {}
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        try:
            node = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except (OSError, TypeError, SyntaxError):
            continue
        fields = node.body if isinstance(node, ast.ClassDef) else []
        found |= {
            field.target.id: _annotation(field.annotation)
            for field in fields
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        }
    return found


def _annotation(node: ast.expr) -> str:
    """As written, without quotes around it, and without the bounds of `Annotated`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Annotated" and isinstance(node.slice, ast.Tuple):
        return _annotation(node.slice.elts[0])
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return f"{_annotation(node.left)} | {_annotation(node.right)}"
    return ast.unparse(node)
