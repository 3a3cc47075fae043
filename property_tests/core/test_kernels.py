"""Laws of kernel configs and of the spaces over their fields."""

from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autotune import Config, ConfigError, Integer, SpaceError
from autotune.core.kernels.config import (
    FIELDS,
    PERSISTENT,
    EvictionPolicy,
    Indexing,
    KernelConfig,
    MaxRegisters,
    PidType,
    SmMultiplier,
)
from autotune.core.kernels.outline import DEVICES, Tile
from autotune.core.kernels.space import kernel_space
from autotune.core.keys import root
from autotune.core.space import Space


def lists(items: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(items, max_size=4)


TRUTH, UNSET = st.booleans(), st.sampled_from([None, False, True])
SMALL, POSITIVE = st.integers(0, 8), st.integers(1, 4096)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "block_sizes": lists(POSITIVE),
    "num_threads": SMALL | lists(SMALL),
    "loop_orders": lists(st.integers(1, 3).flatmap(lambda n: st.permutations(range(n)))),
    "flatten_loops": lists(TRUTH),
    "l2_groupings": lists(POSITIVE),
    "reduction_loops": lists(st.none() | POSITIVE),
    "range_unroll_factors": lists(SMALL),
    "range_warp_specializes": lists(UNSET),
    "range_num_stages": lists(SMALL),
    "range_multi_buffers": lists(UNSET),
    "range_flattens": lists(UNSET),
    "static_ranges": lists(TRUTH),
    "load_eviction_policies": lists(st.sampled_from(get_args(EvictionPolicy))),
    "num_warps": POSITIVE,
    "num_stages": POSITIVE,
    "pid_type": st.sampled_from(get_args(PidType)),
    "num_sm_multiplier": st.sampled_from(get_args(SmMultiplier)),
    "maxnreg": st.sampled_from(get_args(MaxRegisters)),
    "indexing": st.sampled_from(get_args(Indexing)) | lists(st.sampled_from(get_args(Indexing))),
    "advanced_controls_file": st.text(max_size=5),
}
"""What each field takes."""

LITERALS = {
    "load_eviction_policies": EvictionPolicy,
    "pid_type": PidType,
    "num_sm_multiplier": SmMultiplier,
    "maxnreg": MaxRegisters,
    "indexing": Indexing,
}

ANYTHING = st.none() | st.booleans() | st.integers(-300, 300) | st.floats(allow_nan=False) | st.text(max_size=4)


def configs() -> st.SearchStrategy[KernelConfig]:
    own = st.dictionaries(st.sampled_from(["split_k", "tile_0", "x"]), st.none() | SMALL | lists(SMALL), max_size=2)
    fields = st.fixed_dictionaries({}, optional=VALUES)
    return st.builds(lambda f, u: KernelConfig(**f, **u), fields, own)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    tile = st.integers(1, 10_000) | st.builds(Tile, st.integers(16, 10_000), st.sampled_from([1, 16]))
    tiles = draw(st.lists(tile | st.lists(tile, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3))
    reductions = draw(st.lists(st.integers(1, 1 << 21), max_size=2))
    axes = sum(len(nest) if isinstance(nest, tuple) else 1 for nest in tiles) + len(reductions)
    accesses = st.lists(st.lists(st.integers(0, axes - 1), min_size=1, max_size=3, unique=True), max_size=3)
    return kernel_space(
        tiles,
        reductions=reductions,
        loops=None if draw(TRUTH) else len(tiles) + len(reductions),
        loads=draw(st.integers(0, 3) | accesses),
        stores=draw(st.integers(0, 2) | accesses),
        persistent=draw(TRUTH),
        device=draw(st.sampled_from(sorted(DEVICES))),
        element_bytes=draw(st.sampled_from([1, 2, 4])),
        threads=draw(TRUTH),
        control_files=draw(st.sampled_from([(), ("a.acf",)])),
        user={"split_k": Integer(1, 8)} if draw(TRUTH) else None,
    )


def test_every_field_of_the_class_is_tried_here() -> None:
    assert set(VALUES) == set(FIELDS)
    assert [*FIELDS, "user"] == list(KernelConfig.__dataclass_fields__)


@settings(deadline=None)
@given(configs())
def test_a_config_and_its_view_are_one(config: KernelConfig) -> None:
    core = config.to_config()
    assert KernelConfig.of(core) == config
    assert KernelConfig.of(core).to_config() == core
    assert KernelConfig.of(Config.from_json(core.to_json())) == config
    assert KernelConfig(**config.fields()) == config
    assert KernelConfig.of(config.fields()) == config
    assert hash(KernelConfig.of(core)) == hash(config)


@settings(deadline=None)
@given(configs(), configs())
def test_configs_are_equal_when_their_fields_are(one: KernelConfig, other: KernelConfig) -> None:
    assert (one == other) == (Config(one.fields()) == Config(other.fields()))


@pytest.mark.parametrize("name", LITERALS)
@settings(deadline=None)
@given(value=ANYTHING)
def test_a_field_of_few_values_takes_these_and_no_others(name: str, value: Any) -> None:
    allowed = get_args(LITERALS[name])
    good = any(type(value) is type(one) and value == one for one in allowed)
    single = name != "load_eviction_policies"
    if value is not None:
        assert accepts(**{name: value}) == (good and single)
    if FIELDS[name].listed:
        assert accepts(**{name: [allowed[0], value]}) == good


@pytest.mark.parametrize("name", FIELDS)
@settings(deadline=None)
@given(value=ANYTHING | st.lists(ANYTHING, max_size=3) | st.lists(st.lists(SMALL, max_size=3), max_size=2))
def test_what_a_field_takes_it_keeps_and_what_it_does_not_it_names(name: str, value: Any) -> None:
    if not accepts(**{name: value}):
        with pytest.raises(ConfigError, match=name):
            KernelConfig(**{name: value})
        return
    config = KernelConfig(**{name: value})
    assert Config(config.fields()) == Config({} if value is None else {name: value})


def accepts(**fields: Any) -> bool:
    try:
        KernelConfig(**fields)
    except ConfigError:
        return False
    return True


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=25)
@given(spaces(), st.integers(0, 99))
def test_a_kernel_space_has_a_valid_default_and_valid_points(space: Space, seed: int) -> None:
    assert space.default is not None
    space.check(space.default)
    rows = space.sample(root(seed), 20)
    assert space.valid(rows).all()
    for config in space.decode(rows):
        view = KernelConfig.of(config)
        assert view.complete(space) == config
        small = view.minimize(space)
        assert small.complete(space) == config
        assert small.minimize(space) == small
        assert set(small.fields()) <= set(view.fields())
        for name in small.fields():
            dropped = {n: v for n, v in small.fields().items() if n != name}
            assert dropped_differs(space, dropped, config), f"{name} equals its default and was kept"
    assert KernelConfig.of(space.default).minimize(space) == KernelConfig()
    assert KernelConfig().complete(space) == space.default


def dropped_differs(space: Space, fields: dict[str, Any], config: Config) -> bool:
    try:
        return KernelConfig(**fields).complete(space) != config
    except ConfigError:
        return True


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=40)
@given(spaces(), st.integers(0, 99))
def test_what_only_a_persistent_kernel_has_only_such_a_kernel_gets(space: Space, seed: int) -> None:
    for config in space.decode(space.sample(root(seed), 20)):
        view = KernelConfig.of(config)
        persistent = view.pid_type in PERSISTENT
        assert persistent or (view.num_sm_multiplier or 1) == 1
        assert persistent or view.maxnreg is None
        for place, static in enumerate(view.static_ranges or ()):
            assert not static or (view.range_unroll_factors or ())[place] == 0
        if view.l2_groupings and view.l2_groupings != (1,):
            assert view.pid_type != "xyz"
            assert not (view.flatten_loops or (False,))[0]


@settings(deadline=None)
@given(
    st.integers(4, 12), st.integers(4, 12), st.integers(4, 11), st.integers(1, 8), st.integers(0, 4),
    st.sampled_from(sorted(DEVICES)),
)  # fmt: skip
def test_what_a_loop_loads_ahead_fits_into_shared_memory(
    m: int, n: int, k: int, stages: int, own: int, device: str
) -> None:
    space = MATMULS[device]
    assert space.default is not None
    config = dict(space.default) | {
        "block_sizes_0": 2**m, "block_sizes_1": 2**n, "block_sizes_2": 2**k, "num_stages": stages,
        "range_num_stages_0": own,
    }  # fmt: skip
    limits = DEVICES[device]
    held = (2 ** (m + k) + 2 ** (k + n)) * 2 * ((own or stages) - 1)
    elements = max(2 ** (m + k), 2 ** (k + n), 2 ** (m + n))
    expected = held <= limits.shared_bytes and elements <= limits.tensor_elements
    assert space.valid(space.encode([config]))[0] == expected


MATMULS = {
    device: kernel_space([(4096, 4096), 2048], loads=[(0, 2), (2, 1)], stores=[(0, 1)], device=device)
    for device in DEVICES
}


@given(st.sampled_from([*FIELDS, "block_sizes_7", "indexing_0"]))
def test_a_parameter_of_ones_own_has_a_name_of_its_own(name: str) -> None:
    with pytest.raises(SpaceError, match=name):
        kernel_space([64], user={name: Integer(0, 1)})
