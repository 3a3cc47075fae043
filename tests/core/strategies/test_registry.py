"""Strategies by name."""

import subprocess
import sys


def test_importing_and_naming_strategies_needs_no_scikit_learn() -> None:
    code = "import sys, autotune; autotune.STRATEGIES; autotune.LFBOTreeSearch(); print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "False"
