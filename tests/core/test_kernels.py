"""Kernel configs and spaces by example, and the big made-up kernels that strategies are tried on."""

from types import ModuleType

import numpy as np
import pytest

from autotune import STRATEGIES, Choice, Config, ConfigError, KernelConfig, SpaceError, Tile, kernel_space
from autotune.core.kernels.config import FIELDS
from autotune.core.keys import root
from autotune.core.space import Space
from tests.support import DOCS, load_module

MATMUL = kernel_space([(4096, 4096), 1024], loads=[(0, 2), (2, 1)], stores=[(0, 1)], persistent=True, device="sm_90")


def test_all_fields_of_the_seed_and_any_of_ones_own() -> None:
    config = KernelConfig(
        block_sizes=[64, 32], num_threads=[32, 4], loop_orders=[[1, 0]], flatten_loops=[True], l2_groupings=[4],
        reduction_loops=[None, 64], range_unroll_factors=[0, 2], range_warp_specializes=[None, True],
        range_num_stages=[0, 3], range_multi_buffers=[None, False], range_flattens=[None, True], static_ranges=[False],
        load_eviction_policies=["", "first", "last"], num_warps=8, num_stages=3, pid_type="persistent_interleaved",
        num_sm_multiplier=4, maxnreg=128, indexing=["pointer", "block_ptr", "tensor_descriptor"],
        advanced_controls_file="tuned.acf", split_k=4,
    )  # fmt: skip
    assert set(config.fields()) == {*FIELDS, "split_k"}
    assert config.loop_orders == ((1, 0),)
    assert config.user == {"split_k": 4}
    assert config.to_config()["indexing_2"] == "tensor_descriptor"
    assert KernelConfig.of(Config.from_json(config.to_config().to_json())) == config
    assert eval(repr(config)) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pid_type": "persistent"}, "pid_type = 'persistent'; it takes one of 'flat', 'xyz'"),
        ({"num_sm_multiplier": 3}, "num_sm_multiplier = 3; it takes one of 1, 2, 4, 8"),
        ({"maxnreg": 48}, "maxnreg = 48"),
        ({"indexing": ["pointer", "block"]}, "indexing = .* or a list of these"),
        ({"load_eviction_policies": ["middle"]}, "load_eviction_policies"),
        ({"load_eviction_policies": "first"}, "load_eviction_policies"),
        ({"block_sizes": [64, True]}, "block_sizes"),
        ({"block_sizes": 64}, "block_sizes = 64; it takes a list"),
        ({"num_warps": 4.0}, "num_warps"),
        ({"loop_orders": [[0, 2]]}, r"\[0, 2\] is no order"),
        ({"block_sizes_1": 64}, "give the list as a whole"),
        ({"split_k": object()}, "split_k"),
        ({"split k": 1}, "not a name"),
        ({"user": 1}, "'user'; choose another"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        KernelConfig(**fields)


def test_items_make_a_whole_list() -> None:
    assert KernelConfig.of({"block_sizes_1": 8, "block_sizes_0": 4}).block_sizes == (4, 8)
    with pytest.raises(ConfigError, match="lacks block_sizes_0"):
        KernelConfig.of({"block_sizes_1": 8})
    with pytest.raises(ConfigError, match="as a whole and by items"):
        KernelConfig.of({"block_sizes": [4], "block_sizes_0": 4})


def test_the_default_is_what_leaving_everything_out_means() -> None:
    default = KernelConfig.of(MATMUL.check(MATMUL.default or {}))
    assert default.minimize(MATMUL) == KernelConfig()
    assert KernelConfig(num_warps=4, indexing="pointer", pid_type="flat").minimize(MATMUL) == KernelConfig()
    assert KernelConfig(num_warps=8, indexing=["pointer"] * 3).minimize(MATMUL) == KernelConfig(num_warps=8)


def test_one_indexing_is_for_all_loads_and_stores() -> None:
    point = KernelConfig(indexing="block_ptr").complete(MATMUL)
    assert {point[f"indexing_{i}"] for i in range(3)} == {"block_ptr"}
    assert KernelConfig.of(point).minimize(MATMUL).indexing == ("block_ptr",) * 3


def test_a_field_that_the_space_lacks_may_say_nothing_but_the_obvious() -> None:
    small = kernel_space([1024])
    assert KernelConfig(maxnreg=None, num_sm_multiplier=1, static_ranges=[False]).complete(small) == small.default
    with pytest.raises(ConfigError, match="num_sm_multiplier"):
        KernelConfig(num_sm_multiplier=2).complete(small)
    assert KernelConfig(num_sm_multiplier=1, loop_orders=[[0, 1]]).minimize(small) == KernelConfig()


def test_without_a_default_only_what_says_nothing_is_dropped() -> None:
    bare = Space({"block_sizes_0": MATMUL.parameters["block_sizes_0"]})
    assert KernelConfig(block_sizes=[64], num_warps=4).minimize(bare) == KernelConfig(block_sizes=[64])


def test_the_matmul_has_the_fields_that_it_can_use() -> None:
    assert MATMUL.with_role("block_size") == ("block_sizes_0", "block_sizes_1", "block_sizes_2")
    assert MATMUL.with_role("num_warps") == ("num_warps",)
    assert "range_warp_specializes_0" not in MATMUL.names
    assert "loop_orders_1" not in MATMUL.names
    assert {"maxnreg", "num_sm_multiplier", "range_num_stages_1", "load_eviction_policies_1"} < set(MATMUL.names)
    blackwell = kernel_space([(64, 64), 32], device="sm_100")
    assert "range_warp_specializes_0" in blackwell.names
    assert "maxnreg" not in blackwell.names


def test_a_reduction_is_whole_unless_it_cannot_be() -> None:
    space = kernel_space([1024], reductions=[8, 4096, 1 << 22])
    assert space.parameters["reduction_loops_0"] == Choice((None,), ordered=True)
    assert space.parameters["reduction_loops_1"].describe().endswith("None")
    assert space.default is not None
    assert [space.default[f"reduction_loops_{i}"] for i in range(3)] == [None, None, 4096]


def test_a_default_of_ones_own() -> None:
    space = kernel_space([(64, 64)], loads=2, default=KernelConfig(block_sizes=[16, 8], indexing="block_ptr"))
    assert space.default is not None
    assert KernelConfig.of(space.default).block_sizes == (16, 8)
    assert KernelConfig.of(space.default).indexing == ("block_ptr", "block_ptr")
    with pytest.raises(SpaceError, match="maxnreg"):
        kernel_space([64], persistent=True, default=KernelConfig(maxnreg=64))
    with pytest.raises(ConfigError, match="num_warps"):
        kernel_space([64], default=KernelConfig(num_warps=3))
    big = KernelConfig(block_sizes=[4096, 4096])
    with pytest.raises(ConfigError, match="breaks the constraint"):
        kernel_space([(4096, 4096)], default=big)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: kernel_space([]), "tiles"),
        (lambda: kernel_space(64), "give a list"),
        (lambda: kernel_space([()]), "at least one tile"),
        (lambda: kernel_space([0]), "size must be a positive"),
        (lambda: kernel_space([64], device="sm_91"), "no device is called 'sm_91'"),
        (lambda: kernel_space([64], loads=[(0, 1)]), r"the axes are 0 to 0"),
        (lambda: kernel_space([64], loads=[0]), "not a list of axes"),
        (lambda: kernel_space([64, 64], loops=0), "are 1 loops already"),
        (lambda: kernel_space([64], reductions=[0]), "a reduction is 0"),
        (lambda: kernel_space([64], stores=-1), "stores is -1"),
        (lambda: kernel_space([Tile(64, low=3)]), "low must be a power of two"),
        (lambda: kernel_space([Tile(64, 16, 8)]), "low is above"),
    ],
)
def test_what_cannot_be_described_is_named(build, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SpaceError, match=message):
        build()


# Big kernels


@pytest.fixture(scope="module")
def big() -> ModuleType:
    return load_module(DOCS / "benchmarks" / "big_kernels.py")


def test_big_kernels_are_big_and_their_times_repeat(big: ModuleType) -> None:
    for build in big.KERNELS.values():
        space = build()
        assert len(space.names) > 20
        assert space.size >= 10**12
        assert len(space.constraints) >= 5
        rows = space.sample(root(3), 200)
        times = big.MadeUp(space).times(rows)
        np.testing.assert_array_equal(times, big.MadeUp(build()).times(rows))
        assert 0.02 < np.isinf(times).mean() < 0.4
        best, typical = np.quantile(times[np.isfinite(times)], [0, 0.5])
        assert typical > 1.5 * best


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_gets_through_a_big_kernel(big: ModuleType, strategy: str) -> None:
    space = big.fused()
    figures = big.run(space, strategy, evaluations=60, seed=0)
    assert figures.evaluations == 60
    middling = np.median(big.MadeUp(space).times(space.sample(root(5), 200)))
    assert figures.best_ms < middling


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_strategy_stalls_on_a_big_kernel(big: ModuleType, strategy: str) -> None:
    big.run(big.norm(), "lfbo_tree_search", 150, seed=0)  # imports what fits forests
    for build in big.KERNELS.values():
        figures = big.run(build(), strategy, evaluations=300, seed=0)
        assert figures.longest_s < 10
