"""How much longer `import autotune` takes than starting Python alone, and whether it pulls in anything heavy.

python docs/benchmarks/import_time.py
"""

import subprocess
import sys
import time
from statistics import median

HEAVY = ("torch", "triton", "sklearn", "matplotlib", "ray", "numba", "scipy", "pandas", "rich", "typer")
ROUNDS = 15


def seconds(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def main() -> None:
    seconds("import autotune")  # compiles the bytecode
    pairs = [(seconds("pass"), seconds("import autotune")) for _ in range(ROUNDS)]  # interleaved: the machine drifts
    bare, whole = (median(column) for column in zip(*pairs, strict=True))
    code = f"import sys, autotune; print([name for name in {HEAVY!r} if name in sys.modules])"
    heavy = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    print(f"bare interpreter {bare:.3f} s, with autotune {whole:.3f} s, difference {whole - bare:.3f} s")
    print(f"heavy modules imported: {heavy}")


if __name__ == "__main__":
    main()
