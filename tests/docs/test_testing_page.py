"""The first example of docs/howto/test_your_part.md passes as it stands."""

import re
import subprocess
import sys
from pathlib import Path

from tests.support import DOCS, ROOT


def test_the_strategy_of_the_page_passes_its_laws(tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", (DOCS / "howto" / "test_your_part.md").read_text(), flags=re.S)[0]
    file = tmp_path / "test_my_search.py"
    file.write_text(code)
    command = [sys.executable, "-m", "pytest", str(file), "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"]
    laws = "valid or data or seed or tunes or small or cut_journal"
    ran = subprocess.run([*command, "-k", laws], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None, ran.stdout
    assert int(passed[1]) >= 7, "-k finds more in older versions of pytest"
