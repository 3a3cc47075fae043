"""The space in a file of JSON or Python, for `autotune ask`. JSON is decoded by types alone; nothing is executed."""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from autotune.cli.problem_file import load_space as load_python_space
from autotune.core.errors import AutotuneError, PlanError
from autotune.core.parameters import Choice, Parameter
from autotune.core.space import Space
from autotune.core.space_spec import ConstraintSpec, from_constraint_spec
from autotune.shell.files import read_regular, translate_os_error
from autotune.shell.signed_json import UNREADABLE

EXAMPLE = '{"parameters": {"tile": [16, 32, 64]}, "constraints": ["tile * stages <= 128"], "default": {"tile": 16}}'


class SpaceFile(Struct, forbid_unknown_fields=True):
    """A space in JSON, as journals write it; a parameter may also be the list of its values, and a constraint its
    expression."""

    parameters: dict[str, Parameter | list[Any]]
    constraints: tuple[str | ConstraintSpec, ...] = ()
    default: dict[str, Any] | None = None


def load_space(target: str) -> Space:
    """The space in FILE.json, or in a Python file FILE[:NAME]; raises PlanError, which names the file and the fault."""
    if not target.endswith(".json"):
        return load_python_space(target)
    with translate_os_error(PlanError, f"{target} cannot be read", "name the file that holds the space"):
        text = read_regular(Path(target))
    try:
        found = msgspec.json.decode(text, type=SpaceFile)
        given = found.parameters.items()
        kinds = {name: Choice(tuple(kind)) if isinstance(kind, list) else kind for name, kind in given}
        constraints = [one if isinstance(one, str) else from_constraint_spec(one) for one in found.constraints]
        return Space(kinds, constraints, found.default)
    except (*UNREADABLE, AutotuneError) as error:
        raise PlanError(f"{target} holds no space: {error}; write, for example: {EXAMPLE}") from None
