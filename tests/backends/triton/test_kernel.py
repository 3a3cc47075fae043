"""How a config is launched."""

from typing import Any

from autotune import Config
from autotune.backends.triton.kernel import Launch


def test_arguments_go_by_position_as_triton_takes_some_names_for_its_own() -> None:
    class Kernel:
        arg_names = ("x", "grid", "stream", "BLOCK")
        launched: list[Any] = []  # noqa: RUF012

        def run(self, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
            self.launched.append((args, grid, kwargs))

        def __getitem__(self, grid: Any) -> Any:
            return lambda *args, **kwargs: self.run(*args, grid=grid, warmup=False, **kwargs)

    kernel = Kernel()
    call = Launch(kernel).call(Config(BLOCK=16, num_warps=2), lambda named: (named["grid"],))
    call({"stream": 4, "x": "tensor", "grid": 3})
    assert kernel.launched == [(("tensor", 3, 4), (3,), {"BLOCK": 16, "num_warps": 2})]
