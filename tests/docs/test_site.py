"""The parts of the site: every page has a place in it, and the generated pages hold what the library has."""

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

import pytest

import autotune
from tests.support import DOCS, ROOT


@pytest.fixture(scope="module")
def site() -> Iterator[Any]:
    """The package `site_pages`, which stands beside the pages; without the integrations, which take long to import."""
    pytest.importorskip("sphinx")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        import site_pages

        for module in (site_pages.names, site_pages.api):
            patch.setattr(module, "exists", lambda name: False)
        yield site_pages
    for name in [name for name in sys.modules if name.partition(".")[0] == "site_pages"]:
        del sys.modules[name]


def test_every_page_has_a_place_in_the_contents() -> None:
    trees = re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(), flags=re.DOTALL)
    listed = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    pages = {page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")} - {"index"}
    assert {page for page in pages if not any(fnmatch(page, one) for one in listed)} == set()
    assert {one for one in listed if "generated/" not in one and not any(fnmatch(page, one) for page in pages)} == set()


def test_the_api_shows_every_public_name_once(site: Any) -> None:
    pages = {name: text for name, text in site.api.pages().items() if name.startswith(("api_", "module_"))}
    directive = re.compile(r"^\.\. (?:auto\w*|py:data|py:function):: ([\w.]+).*(?:\n   :module: (\S+))?", re.M)
    found = [entry for text in pages.values() for entry in directive.findall(text)]
    shown = [f"{module}.{name}" if module else name for name, module in found]
    assert len(shown) == len(set(shown))
    assert {f"autotune.{name}" for name in dir(autotune) if not name.startswith("_")} <= set(shown)


def test_the_page_of_commands_has_every_command(site: Any) -> None:
    text = site.commands.pages()["commands.rst"]
    for heading in ("autotune tune", "autotune cache explain", "autotune run"):
        assert f"\n{heading}\n" in text
    assert "``--evaluations INTEGER``" in text or "--evaluations" in text


def test_schemas_are_of_what_is_written(site: Any) -> None:
    """Every field of the types that are read is in a schema, and configs are objects."""
    for _, _, kind, _ in site.formats.FORMATS:
        schema = site.formats.schema_of(kind)
        assert "$ref" in schema or "anyOf" in schema
    entry = site.formats.schema_of(None)["$defs"]["Entry"]["properties"]
    assert {"key", "run", "result", "space", "measurements"} <= set(entry)


def test_files_of_released_versions_fit_the_schemas(site: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schemas = {name: site.formats.schema_of(kind) for name, _, kind, _ in site.formats.FORMATS}
    fits = {name: jsonschema.Draft202012Validator(schema).validate for name, schema in schemas.items()}
    journals = [*(ROOT / "tests/golden").rglob("*.jsonl"), *(ROOT / "property_tests/journals").rglob("*.jsonl")]
    entries = [json.loads(path.read_bytes()) for path in (ROOT / "tests/golden").rglob("entries/*/*.json")]
    assert len(journals) > 2
    assert entries
    for journal in journals:
        header, *lines = journal.read_text().splitlines()
        fits["journal_header"](json.loads(header))
        for line in lines[:50]:
            fits["journal_event"](json.loads(line)["event"])
    for entry in entries:
        fits["cache_entry"](entry)
    for study in (DOCS / "benchmarks").glob("*.toml"):
        fits["study"](tomllib.loads(study.read_text()))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The limits. seconds: on the clock. Raises PlanError.", "``seconds``\n   on the clock."),
        ("low, high: its interval.", "``low``, ``high``\n   its interval."),
        ("other: no field of it.", "other: no field of it."),
        ("Use `tune`.", ":py:func:`tune <autotune.tune>`"),
        ("Not a_name* here.", r"a\_name\*"),
        ("As in\n\n    code(1)", "::\n\n   code(1)"),
    ],
)
def test_docstrings_become_definitions_links_and_code(site: Any, text: str, found: str) -> None:
    assert found in site.docstrings.to_rst(text, ("seconds", "low", "high"))


def test_signatures_are_as_the_source_writes_them(site: Any) -> None:
    signature, returned = site.docstrings.written_signature(autotune.tune)
    assert "space: Space | Mapping[str, Parameter]" in signature
    assert returned == "Result"
    budget, _ = site.docstrings.written_signature(autotune.Budget)
    assert budget.startswith("(evaluations: int | None = None, seconds: float | None = None")
