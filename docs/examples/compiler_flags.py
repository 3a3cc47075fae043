"""Tune the flags with which a C++ program is compiled: `autotune tune docs/examples/compiler_flags.py`. Needs g++."""

from pathlib import Path

from autotune import Boolean, Budget, Choice, CommandEvaluator, OutputPattern, PowerOfTwo, Problem, Space

HERE = Path(__file__).resolve().parent

space = Space(
    {
        "level": Choice(["1", "2", "3"]),
        "native": Boolean(),
        "fast_math": Boolean(),
        "unroll": Boolean(),
        "tile": PowerOfTwo(32, 2048),
    },
    default={"level": "2", "native": False, "fast_math": False, "unroll": False, "tile": 64},
)

evaluator = CommandEvaluator(
    build=[
        *("g++", "{level}", "{native}", "{fast_math}", "{unroll}", "-DTILE={tile}"),
        *("compiler_flags.cpp", "-o", "{program}"),
    ],
    run=["{program}"],
    formats={"level": "-O{}", "native": "-march=native", "fast_math": "-ffast-math", "unroll": "-funroll-loops"},
    time=OutputPattern(r"^time (.*) ms$"),  # each match is a sample; without this, the whole run is timed
    reference="total 5.494508e+05",
    rtol=1e-4,  # -ffast-math sums in another order
    sources=["compiler_flags.cpp"],
    cwd=HERE,
)

problem = Problem(space, evaluator, effort="quick", budget=Budget(evaluations=20))
