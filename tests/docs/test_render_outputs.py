"""The script that runs what the pages show: which blocks it finds, what it compares, and what it writes back."""

import ast
import re
from pathlib import Path

import pytest

from tests.support import DOCS, ROOT, load_module

script = load_module(DOCS / "render_outputs.py")
PAGES = [ROOT / name for name in script.tracked("README.md", "docs/*.md")]
NOT_RUN = ("benchmarks", "design", "changelog.md", "architecture.md")
"""Notes and figures from machines with a GPU, and pages for readers of the code."""


def page(text: str) -> list[str]:
    return text.replace("FENCE", "```").splitlines()


def run_in(folder: Path, lines: list[str]) -> object:
    (folder.parent / "home").mkdir(exist_ok=True)
    run = script.Run(page="page.md", folder=folder)
    run.follow(script.parse_blocks("page.md", lines))
    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def test_outputs_are_written_where_the_page_shows_others(folder: Path) -> None:
    lines = page(
        "<!-- file names.txt -->\nFENCEtext\none\ntwo\nFENCE\n\n<!-- run -->\nFENCEconsole\n$ cat names.txt\n"
        "$ echo \\\n  three\nfour\nFENCE\nrest\n"
    )
    run = run_in(folder, lines)
    assert len(script.differences(run)) == 2
    new = script.renewed(lines, run)
    assert new == [*lines[:9], "one", "two", *lines[9:11], "three", *lines[12:]]
    assert script.differences(run_in(folder, new)) == []


def test_bare_commands_and_programs_print_into_the_next_output_block(folder: Path) -> None:
    lines = page(
        "<!-- run -->\n\n    echo one\n\n<!-- output -->\nFENCEtext\nFENCE\n<!-- setup\nx = 1\n-->\n"
        "<!-- run -->\nFENCEpython\nprint(x)\nFENCE\n"
        "<!-- run continues -->\nFENCEpython\nprint(x + 1)\nFENCE\n<!-- output -->\nFENCE\n0\nFENCE\n"
    )
    new = script.renewed(lines, run_in(folder, lines))
    assert [line for line in new if line in ("one", "0", "1", "2")] == ["one", "1", "2"]


def test_a_failure_is_a_fault_unless_it_is_expected(folder: Path) -> None:
    def faults(mark: str, command: str) -> list[str]:
        return run_in(folder, page(f"<!-- run unshown {mark} -->\n\n    $ {command}\n")).faults

    assert faults("", "true") == []
    assert "ends with code 3" in faults("", "echo no; exit 3")[0]
    assert faults("fails", "exit 3") == []
    assert "ends with code 0" in faults("fails", "true")[0]
    assert "prints nothing like speed-up [3-9]" in faults("'expect=speed-up [3-9]'", "echo speed-up 2")[0]
    assert faults("X=4 'expect=speed-up [3-9]'", "echo speed-up $X") == []


@pytest.mark.parametrize(
    ("shown", "printed", "measured", "equal"),
    [
        ("took 3.2 s", "took 41 ms", False, True),
        ("9 configs", "8 configs", False, False),
        ("9 configs", "8 configs", True, True),
        ("9 configs", "9 points", True, False),
        ("best  0.55 ms (0.53 ms to 0.57 ms)", "best  0.5001 ms (0.4 ms to 0.7 ms, 75 %)", False, True),
        ("speed-up  9.92x (9.01 to 16.8) over", "speed-up  10x over", False, True),
        ('chunk   65536  "sqrt"', "chunk  4096", True, True),
        ('config  {"chunk":65536}', 'config  {"chunk":4096,"reuse":true}', True, True),
        ("run 5b5602e2, 2026-11-22 12:27", "run 01234567, 2027-01-01 00:00", False, True),
    ],
)
def test_only_what_differs_from_run_to_run_is_not_compared(
    shown: str, printed: str, measured: bool, equal: bool
) -> None:
    assert (script.comparable([shown], measured) == script.comparable([printed], measured)) is equal


def test_lines_that_depend_on_the_times_are_not_compared() -> None:
    assert script.comparable(["best 1", "as good 2", "note 3"], True) == script.comparable(["best 2"], True)


def test_lines_that_the_page_leaves_out_stay_left_out() -> None:
    printed = ("1", "2", "3", "4", "5")
    assert script.leave_out(printed, ("a", "…", "b", "c")) == ("1", "…", "4", "5")
    assert script.leave_out(printed, ("a", "b")) == printed


@pytest.mark.parametrize("text", ["FENCEpython\nprint()\nFENCE\n", "\n    $ autotune env\n", "FENCE\n$ ls\nFENCE\n"])
def test_a_block_without_a_mark_is_an_error(text: str) -> None:
    with pytest.raises(script.PageError, match=r"page.md, line \d+: .* without a mark"):
        script.parse_blocks("page.md", page(text))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_block_of_every_page_is_run_or_says_why_not(path: Path) -> None:
    if path.relative_to(DOCS if path.is_relative_to(DOCS) else ROOT).parts[0] in NOT_RUN:
        return
    for block in script.parse_blocks(path.name, path.read_text().splitlines()):
        if block.kind == "skip":
            assert len(block.words) > 10, f"{path.name}, line {block.start}: a skipped block says why"
        if block.language == "python" and (block.kind != "file" or block.words.endswith(".py")):
            ast.parse("\n".join(block.text))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_copy_of_an_example_is_the_example(path: Path) -> None:
    for name, text in re.findall(r"<!-- file (\w+\.py) -->\n```python\n(.*?)```", path.read_text(), re.DOTALL):
        example = DOCS / "examples" / name
        if example.exists():
            assert example.read_text().endswith(text), f"{path.name} shows another {name}"
