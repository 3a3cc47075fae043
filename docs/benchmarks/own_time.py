"""What gaussian_process itself costs an evaluation, with fitting shown apart.

    OPENBLAS_NUM_THREADS=1 python docs/benchmarks/own_time.py RECORDING

Processor time of whole runs of 300 and 1,000 evaluations, in batches of 1 and of 5, divided by the evaluations.
"""

import sys
import time
from typing import Any

from autotune import SimulatedEvaluator
from autotune.core.strategies import gaussian_process
from autotune.studies.recordings import load_recording
from autotune.studies.simulation import Simulation, simulate


def main(path: str) -> None:
    simulation = Simulation.of(load_recording(path))
    spent, fit = 0.0, gaussian_process.fit

    def timed(*given: Any, **named: Any) -> Any:
        nonlocal spent
        began = time.process_time()
        fitted = fit(*given, **named)
        spent += time.process_time() - began
        return fitted

    gaussian_process.fit = timed  # type: ignore[assignment]
    simulate(simulation, "gaussian_process", evaluations=40, seed=0)  # imports what is imported late
    print("own processor time of gaussian_process, ms per evaluation")
    for batch in (1, 5):
        for evaluations in (300, 1000):
            spent, began = 0.0, time.process_time()
            evaluator = SimulatedEvaluator(simulation.table, batch=batch)
            simulate(simulation, "gaussian_process", evaluations=evaluations, seed=1, evaluator=evaluator)
            whole = time.process_time() - began
            shares = (1e3 * part / evaluations for part in (whole, spent))
            print(f"  {evaluations:5} in batches of {batch}: {next(shares):.2f}, of which fitting {next(shares):.2f}")


if __name__ == "__main__":
    main(sys.argv[1])
