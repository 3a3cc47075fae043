"""Runs the commands and the Python that README and the pages show, and renews the outputs that they print.

    python docs/render_outputs.py PAGE...            # run the blocks of these pages, and write their outputs into them
    python docs/render_outputs.py --check PAGE...    # run them, and say where a page shows something else
    python docs/render_outputs.py --list             # the pages that have blocks to run

A block is fenced (```), or indented by four spaces, and an HTML comment before it says what it is:

    <!-- run -->              a program, or a transcript: the lines after "$ " are commands, the others what they print
    <!-- output -->           what the last Python block, or the last block of bare commands, prints
    <!-- file NAME -->        a file that later blocks use
    <!-- setup … -->          Python before the next block, which the reader does not see
    <!-- skip: REASON -->     not run; Python is still compiled

Words after `run` and `output`: `measured` (times decide what is printed: numbers and values are not compared),
`fails` (an exit code other than 0 is expected), `unshown` (what is printed is not shown), `continues` (the program
goes on from the Python blocks before it), NAME=VALUE (an environment variable), expect=REGEX (the output must match),
and mask=REGEX (what matches is not compared). A line `…` of an output stands for lines that are left out. The text of
a file, and commands that are only needed, may stand inside the comment, out of the reader's sight.

The blocks of a page run one after another, in a folder with a copy of the checkout's tracked files. `.venv/bin/` and
`python` are of the environment that runs this script, which should have all extras; a page that makes an environment
gets that one.
"""

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 240.0
"""For one command; a whole page has five minutes in CI."""
LEFT_OUT = "…"

TIME = r"\d[\d,]*(?:\.\d+)? ?(?:ns|us|µs|ms|s)\b"
MASKS = (
    (r"^host( +).*", r"host\1HOST"),
    (r"\b\d{4}-\d\d-\d\d(?: \d\d:\d\d(?::\d\d)?)?", "DATE"),
    (rf" ?\({TIME} to {TIME}(?:, \d+ ?%)?\)", ""),  # the interval of a time
    (TIME, "TIME"),
    (r"\b\d+:\d\d(?::\d\d)?\b", "TIME"),
    (r"\b\d+(?:\.\d+)?x(?: \(\d[\d.]* to \d[\d.]*(?:, \d+ ?%)?\))?", "RATIO"),
    (r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,32}\b", "DIGEST"),
    (r"\b\d+\.\d+\.\d+(?:\+\w+)?\b", "VERSION"),
    (r"[ \t]+", " "),  # columns are as wide as the times in them
)
"""What differs from run to run whatever is printed: a pattern, and what stands for it in a comparison."""

MEASURED_MASKS = (
    (r"\{[^{}]*\}", "#"),
    (r"\[[^\[\]]*\]", "#"),
    (r"\"[^\"]*\"|'[^']*'|\b(?:true|false|True|False|null|None)\b", "#"),
    (r"[-+]?\b\d[\d.,]*(?:e[-+]?\d+)?\b", "#"),
    (r"#(?: #)+", "#"),
)
"""What depends on the times, too: the configs and their number."""

DEPENDS_ON_TIMES = re.compile(r"(as good|note|stopped)\b")
"""Lines of a result that are there or not, as the times will have it."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A part of a page with a mark. Its text is the lines from `start` to before `end`, without the indent."""

    kind: str
    words: str
    language: str
    start: int
    end: int
    indent: str
    text: tuple[str, ...]

    @property
    def options(self) -> set[str]:
        return {word for word in self._words() if "=" not in word}

    @property
    def settings(self) -> dict[str, str]:
        return dict(word.split("=", 1) for word in self._words() if "=" in word)

    def _words(self) -> list[str]:
        return shlex.split(self.words) if self.kind in ("run", "output") else []


class PageError(Exception):
    """A mark that cannot be followed, or a block without one; the text names the page and the line."""


MARK = re.compile(r"\s*<!--\s*(run|output|file|setup|skip|main|tests)\b:?(.*)", re.DOTALL)
RUN_MARK = re.compile(r"^\s*<!-- (?:run|main)\b", re.MULTILINE)
FENCE = re.compile(r"(\s*)(`{3,}|~{3,})\s*\{?([\w-]*)\}?(.*)")
RUNNABLE = ("console", "python", "bash", "sh", "shell")


def parse_blocks(page: str, lines: Sequence[str]) -> list[Block]:
    """All marked blocks. Raises PageError for Python or commands in a block without a mark."""
    blocks: list[Block] = []
    mark: tuple[str, str] | None = None
    at = 0
    while at < len(lines):
        line = lines[at]
        if found := MARK.match(line):
            end = next(i for i in range(at, len(lines)) if "-->" in lines[i])
            text = "\n".join([found[2], *lines[at + 1 : end + 1]]).partition("-->")[0]
            first, _, hidden = text.partition("\n")
            if found[1] == "setup" or hidden.strip():
                language = "console" if hidden.startswith("$ ") else "python"
                hidden_lines = hidden.strip("\n").splitlines()
                blocks.append(_block(found[1], first.strip(), language, at, end + 1, "", hidden_lines))
            else:
                mark = {"main": ("run", ""), "tests": ("skip", "CI runs it as it stands")}.get(found[1], (found[1], ""))
                mark = (mark[0], mark[1] or text.strip())
            at = end + 1
        elif found := FENCE.fullmatch(line):
            indent, fence, language = found[1], found[2], found[3] or "text"
            end = next((i for i in range(at + 1, len(lines)) if lines[i].strip() == fence), len(lines))
            text_lines = [content.removeprefix(indent) for content in lines[at + 1 : end]]
            if mark is not None:
                blocks.append(_block(*mark, language, at + 1, end, indent, text_lines))
            elif language in RUNNABLE or any(content.startswith("$ ") for content in text_lines):
                raise PageError(
                    f"{page}, line {at + 1}: a block of {language} without a mark; see docs/render_outputs.py"
                )
            mark, at = None, end + 1
        elif line.startswith("    ") and (mark is not None or line.startswith("    $ ")):
            end = next((i for i in range(at, len(lines)) if lines[i] and not lines[i].startswith("    ")), len(lines))
            while not lines[end - 1]:
                end -= 1
            if mark is None:
                raise PageError(f"{page}, line {at + 1}: commands without a mark; see docs/render_outputs.py")
            blocks.append(_block(*mark, "console", at, end, "    ", [content[4:] for content in lines[at:end]]))
            mark, at = None, end
        else:
            mark, at = mark if not line.strip() else None, at + 1
    return blocks


def _block(kind: str, words: str, language: str, start: int, end: int, indent: str, text: Sequence[str]) -> Block:
    return Block(kind=kind, words=words, language=language, start=start, end=end, indent=indent, text=tuple(text))


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the page shows as the output of one command, and what the command printed now."""

    start: int
    end: int
    indent: str
    shown: tuple[str, ...]
    printed: tuple[str, ...]
    measured: bool
    mask: str | None

    def compared(self) -> tuple[list[str], list[str]]:
        """Both without what differs from run to run."""
        return comparable(self.shown, self.measured, self.mask), comparable(self.printed, self.measured, self.mask)


@dataclass(kw_only=True)
class Run:
    """The blocks of one page, run in `folder`."""

    page: str
    folder: Path
    outputs: list[Shown] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def follow(self, blocks: Sequence[Block]) -> None:
        printed: tuple[str, ...] | None = None  # by the last block whose output stands in a block of its own
        program: list[str] = []
        hidden: list[str] = []
        for block in blocks:
            if block.kind == "setup":
                hidden = list(block.text)
            elif block.kind == "file":
                path = self.folder / block.words
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("\n".join(block.text) + "\n")
            elif block.kind == "output":
                if printed is None:
                    raise PageError(f"{self.page}, line {block.start}: an output without a block that prints it")
                self._show(block, block.start, block.end, block.text, printed)
                printed = None
            elif block.kind == "run" and block.language == "python":
                kept = program if "continues" in block.options else []
                program, hidden = [*kept, *hidden, *block.text], []
                (self.folder / "block.py").write_text("\n".join(program) + "\n")
                printed = self._execute(block, "python block.py", block.start)
            elif block.kind == "run":
                printed = self._transcript(block)

    def _transcript(self, block: Block) -> tuple[str, ...] | None:
        if not any(line.startswith("$ ") for line in block.text):
            return tuple(line for command, at, _ in _bare(block) for line in self._execute(block, command, at))
        for command, at, end in _prompted(block):
            printed = self._execute(block, command, at)
            if "unshown" not in block.options:
                first, last = at - block.start + command.count("\n") + 1, end - block.start
                shown = block.text[first:last]
                self._show(block, block.start + first, end, shown, printed)
        return None

    def _show(self, block: Block, start: int, end: int, shown: tuple[str, ...], printed: tuple[str, ...]) -> None:
        shown_now = Shown(
            start=start, end=end, indent=block.indent, shown=shown, printed=leave_out(printed, shown),
            measured="measured" in block.options, mask=block.settings.get("mask"),
        )  # fmt: skip
        self.outputs.append(shown_now)

    def _execute(self, block: Block, command: str, at: int) -> tuple[str, ...]:
        """The lines that it prints; a failure, or a match that is missing, is a fault."""
        print(f"{self.page}:{at + 1}: {command}", file=sys.stderr, flush=True)
        code, text = run_command(command, self.folder, block.settings)
        where = f"{self.page}, line {at + 1}: {command}"
        if (code != 0) != ("fails" in block.options):
            self.faults.append(f"{where}\nends with code {code}:\n{text}")
        wanted = block.settings.get("expect")
        if wanted is not None and not re.search(wanted, text):
            self.faults.append(f"{where}\nprints nothing like {wanted}:\n{text}")
        return tuple(line.rstrip() for line in text.rstrip("\n").splitlines())


def _bare(block: Block) -> Iterator[tuple[str, int, int]]:
    """The commands of a block without prompts: each with its first line, and the line after it."""
    at = 0
    while at < len(block.text):
        last = at
        while block.text[last].endswith("\\"):
            last += 1
        if block.text[at].strip():
            yield "\n".join(block.text[at : last + 1]), block.start + at, block.start + last + 1
        at = last + 1


def _prompted(block: Block) -> Iterator[tuple[str, int, int]]:
    """The commands after prompts: each with its line, and the line after its output."""
    starts = [i for i, line in enumerate(block.text) if line.startswith("$ ")]
    for at, end in zip(starts, [*starts[1:], len(block.text)], strict=True):
        last = at
        while block.text[last].endswith("\\"):
            last += 1
        command = "\n".join(block.text[at : last + 1]).removeprefix("$ ")
        while end < len(block.text) and not block.text[end - 1]:
            end -= 1
        yield command, block.start + at, block.start + end


def run_command(command: str, folder: Path, settings: dict[str, str]) -> tuple[int, str]:
    """The exit code, and what stdout and stderr say, with the scratch folders under names that do not change."""
    home = folder.parent / "home"
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AUTOTUNE_", "TRITON_", "PYTHON", "VIRTUAL_ENV"))
    }
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}", "HOME": str(home), "COLUMNS": "110",
        "XDG_CACHE_HOME": str(home / ".cache"), "PIP_CACHE_DIR": str(Path.home() / ".cache/pip"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_QUIET": "3", "TERM": "dumb",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    environment |= {name: value for name, value in settings.items() if name.isupper()}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            ["bash", "-c", command], cwd=folder, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
        try:
            code = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        output.seek(0)
        text = output.read()
    return code, text.replace(str(home), "/home/me").replace(str(folder), "/home/me/autotune")


def leave_out(printed: tuple[str, ...], shown: tuple[str, ...]) -> tuple[str, ...]:
    """What is printed, without as many lines in the middle as the page leaves out."""
    if LEFT_OUT not in shown:
        return printed
    head = shown.index(LEFT_OUT)
    tail = len(shown) - head - 1
    if head + tail >= len(printed):
        return printed
    return (*printed[:head], LEFT_OUT, *printed[len(printed) - tail :])


def comparable(lines: Sequence[str], measured: bool = False, mask: str | None = None) -> list[str]:
    """The lines without what differs from run to run."""
    kept = [line for line in lines if not (measured and DEPENDS_ON_TIMES.match(line))]
    own = ((mask, "MASKED"),) if mask else ()
    for pattern, replacement in (*own, *MASKS, *(MEASURED_MASKS if measured else ())):
        kept = [re.sub(pattern, replacement, line) for line in kept]
    return [line.strip() for line in kept]


def differences(run: Run) -> list[str]:
    """Where the page shows another output than the command prints, a text for each place."""
    found = []
    for output in run.outputs:
        was, now = output.compared()
        if was != now:
            place = f"{run.page}, line {output.start + 1}"
            raw = "\n".join(output.printed)
            diff = "\n".join(unified_diff(was, now, "page", "now", lineterm=""))
            found.append(f"{place}: the page shows another output\n{diff}\nprinted:\n{raw}")
    return found


def renewed(lines: Sequence[str], run: Run) -> list[str]:
    """The page with what its commands print now. An output that differs only in what is masked stays as it is."""
    result = list(lines)
    for output in reversed(run.outputs):
        was, now = output.compared()
        if was != now:
            result[output.start : output.end] = [(output.indent + line).rstrip() for line in output.printed]
    return result


def copy_checkout(to: Path) -> None:
    """The tracked files as they are in the working tree, and an environment unless the page makes one."""
    for name in tracked():
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # removed in the working tree, and not committed yet
            shutil.copy2(ROOT / name, target)


def run_page(page: str, lines: Sequence[str]) -> Run:
    """Raises PageError for a mark that cannot be followed."""
    blocks = parse_blocks(page, lines)
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(page=page, folder=Path(scratch).resolve() / "autotune")
        copy_checkout(run.folder)
        (run.folder.parent / "home").mkdir()
        if not any("-m venv" in line for block in blocks if block.kind == "run" for line in block.text):
            (run.folder / ".venv").symlink_to(Path(sys.executable).parents[1])
        run.follow(blocks)
    return run


def tracked(*patterns: str) -> list[str]:
    """The tracked files that match, as paths from the root."""
    command = ["git", "ls-files", "-z", "--", *patterns]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]


def pages() -> list[str]:
    """README and the pages that have something to run, as paths from the root."""
    return [page for page in tracked("README.md", "docs/*.md") if RUN_MARK.search((ROOT / page).read_text())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", metavar="PAGE")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a page shows something else")
    parser.add_argument("--list", action="store_true", help="print the pages that have blocks to run")
    given = parser.parse_args()
    if given.list:
        print("\n".join(pages()))
        return
    faults: list[str] = []
    for name in given.pages or pages():
        path = Path(name).resolve()
        page = path.relative_to(ROOT).as_posix()
        lines = path.read_text().splitlines()
        run = run_page(page, lines)
        faults += run.faults
        if given.check:
            faults += differences(run)
        else:
            path.write_text("\n".join(renewed(lines, run)) + "\n")
    for fault in faults:
        print(fault, "\n", file=sys.stderr)
    if faults:
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except PageError as error:
        sys.exit(str(error))
