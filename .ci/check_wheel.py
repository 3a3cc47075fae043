"""What `.ci/wheel` checks: the files in the wheel, the public names of the installed package, and the plots extra."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

IN_DIST_INFO = {"METADATA", "WHEEL", "RECORD", "entry_points.txt"}
EXTRA_OF = {"autotune.helion": "helion", "autotune.kernel_tuner": "kernel-tuner", "autotune.optuna": "optuna"}
"""Modules whose names need an extra."""

STUDY = """
recordings = ["builtin:rms_norm"]
strategies = [{name = "random_search"}]
seeds = 1
evaluations = 5
"""


def check_contents(wheel: Path, source: Path) -> None:
    """The wheel holds the tracked files of the package, its metadata and the licences, and nothing else."""
    licences = tomllib.loads((source / "pyproject.toml").read_text())["project"]["license-files"]
    listed = subprocess.run(["git", "ls-files", "autotune"], cwd=source, capture_output=True, text=True, check=True)
    with ZipFile(wheel) as archive:
        found = set(archive.namelist())
    info = "-".join(wheel.name.split("-")[:2]) + ".dist-info"
    expected = {*listed.stdout.split(), *(f"{info}/{name}" for name in IN_DIST_INFO)}
    expected |= {f"{info}/licenses/{name}" for name in licences}
    assert found == expected, f"{wheel.name}: missing {expected - found}, unexpected {found - expected}"
    assert "autotune/py.typed" in found
    print(f"{wheel.name}: {len(found)} files, {wheel.stat().st_size / 2**20:.1f} MiB")


def check_names() -> None:
    """Every public name can be imported, or its error prints the command that installs the extra."""
    count = 0
    for path in (
        "autotune",
        "autotune.evaluators",
        "autotune.strategies",
        "autotune.studies",
        "autotune.viewer",
        *EXTRA_OF,
    ):
        module = importlib.import_module(path)
        assert "site-packages" in str(module.__file__), f"{path} is not the installed one: {module.__file__}"
        for name in dir(module):
            count += 1
            try:
                getattr(module, name)
            except ImportError as error:
                if f"pip install 'autotune-kernels[{EXTRA_OF.get(path)}]'" not in str(error):
                    raise
    print(f"{count} public names")


def run_study() -> str:
    """What a small study prints on stderr; its folder is `out`."""
    Path("study.toml").write_text(STUDY)
    command = ["autotune", "study", "study.toml", "--out", "out", "--progress"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return ran.stderr


def print_remedy() -> None:
    """The command that a study without matplotlib asks for."""
    said = run_study()
    command = re.search(r"pip install '[^']*'", said)
    assert command is not None, said
    print(command[0])


def check_figures() -> None:
    """With the extra, the same study has figures."""
    said = run_study()
    assert list(Path("out").glob("*.svg")), said
    print("figures of a study are drawn")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["contents", wheel, source]:
            check_contents(Path(wheel), Path(source))
        case ["names"]:
            check_names()
        case ["remedy"]:
            print_remedy()
        case ["figures"]:
            check_figures()
        case other:
            sys.exit(f"unknown arguments {other}")
