"""autotune finds the fastest configuration of a kernel: `tune(space, evaluator, strategy)`.

The public names are those below, imported on first use. `autotune.strategies` and `autotune.evaluators` are for
authors of strategies and evaluators, `autotune.studies` compares strategies, and `autotune.helion`,
`autotune.optuna` and `autotune.kernel_tuner` bring the strategies into other tuners.
"""

from autotune._lazy import lazy_names

TYPE_CHECKING = False  # as type checkers see it, `typing.TYPE_CHECKING`; importing that would double the import time

if TYPE_CHECKING:
    from autotune.backends.command.evaluator import CommandEvaluator as CommandEvaluator
    from autotune.backends.command.output import JsonField as JsonField
    from autotune.backends.command.output import OutputPattern as OutputPattern
    from autotune.backends.triton.arguments import ArgumentSet as ArgumentSet
    from autotune.backends.triton.evaluator import TritonEvaluator as TritonEvaluator
    from autotune.backends.triton_decorator.entry_point import triton as triton
    from autotune.core.config import Config as Config
    from autotune.core.errors import AutotuneError as AutotuneError
    from autotune.core.errors import CacheError as CacheError
    from autotune.core.errors import ConfigError as ConfigError
    from autotune.core.errors import EvaluatorError as EvaluatorError
    from autotune.core.errors import JournalError as JournalError
    from autotune.core.errors import PlanError as PlanError
    from autotune.core.errors import RecordingError as RecordingError
    from autotune.core.errors import SpaceError as SpaceError
    from autotune.core.errors import StrategyError as StrategyError
    from autotune.core.kernels.config import KernelConfig as KernelConfig
    from autotune.core.kernels.outline import DeviceLimits as DeviceLimits
    from autotune.core.kernels.outline import Tile as Tile
    from autotune.core.kernels.space import kernel_space as kernel_space
    from autotune.core.models.forest import compute_leaf_similarity as compute_leaf_similarity
    from autotune.core.outcomes import Failed as Failed
    from autotune.core.outcomes import Outcome as Outcome
    from autotune.core.outcomes import Timed as Timed
    from autotune.core.outcomes import Trial as Trial
    from autotune.core.parameters import Boolean as Boolean
    from autotune.core.parameters import Choice as Choice
    from autotune.core.parameters import Integer as Integer
    from autotune.core.parameters import ListOf as ListOf
    from autotune.core.parameters import OptionalOf as OptionalOf
    from autotune.core.parameters import Parameter as Parameter
    from autotune.core.parameters import Permutation as Permutation
    from autotune.core.parameters import PowerOfTwo as PowerOfTwo
    from autotune.core.search.messages import Asked as Asked
    from autotune.core.search.messages import Compare as Compare
    from autotune.core.search.messages import Compared as Compared
    from autotune.core.search.messages import Conclude as Conclude
    from autotune.core.search.messages import Dispatched as Dispatched
    from autotune.core.search.messages import Event as Event
    from autotune.core.search.messages import Finished as Finished
    from autotune.core.search.messages import Interrupted as Interrupted
    from autotune.core.search.messages import Limits as Limits
    from autotune.core.search.messages import Measure as Measure
    from autotune.core.search.messages import Observed as Observed
    from autotune.core.search.messages import Reported as Reported
    from autotune.core.search.messages import Resumed as Resumed
    from autotune.core.search.messages import Sampled as Sampled
    from autotune.core.search.messages import Ticked as Ticked
    from autotune.core.search.messages import Told as Told
    from autotune.core.search.messages import Wait as Wait
    from autotune.core.search.plan import Budget as Budget
    from autotune.core.search.plan import Plan as Plan
    from autotune.core.search.plan import Settings as Settings
    from autotune.core.search.request import request as request
    from autotune.core.search.result import Finalist as Finalist
    from autotune.core.search.result import MeasuredConfig as MeasuredConfig
    from autotune.core.search.result import Result as Result
    from autotune.core.search.result import TuningFailed as TuningFailed
    from autotune.core.search.result import result as result
    from autotune.core.search.rounds import order_of_round as order_of_round
    from autotune.core.search.state import Search as Search
    from autotune.core.search.state import advance as advance
    from autotune.core.search.state import start as start
    from autotune.core.space import Space as Space
    from autotune.core.statistics import Ratio as Ratio
    from autotune.core.strategies.differential_evolution import DESurrogateHybrid as DESurrogateHybrid
    from autotune.core.strategies.differential_evolution import (
        DifferentialEvolutionSearch as DifferentialEvolutionSearch,
    )
    from autotune.core.strategies.gaussian_process import GaussianProcessSearch as GaussianProcessSearch
    from autotune.core.strategies.lfbo import LFBOPatternSearch as LFBOPatternSearch
    from autotune.core.strategies.lfbo import LFBOTreeSearch as LFBOTreeSearch
    from autotune.core.strategies.pattern_search import PatternSearch as PatternSearch
    from autotune.core.strategies.population import InitialPopulationStrategy as InitialPopulationStrategy
    from autotune.core.strategies.protocol import Strategy as Strategy
    from autotune.core.strategies.random_search import FiniteSearch as FiniteSearch
    from autotune.core.strategies.random_search import RandomSearch as RandomSearch
    from autotune.core.strategies.registry import STRATEGIES as STRATEGIES
    from autotune.core.strategies.registry import register as register
    from autotune.interop.seed_configs import SeedConfigs as SeedConfigs
    from autotune.interop.seed_configs import load_seeds as load_seeds
    from autotune.interop.seed_configs import write_seeds as write_seeds
    from autotune.interop.tuned_configs import read_tuned_configs as read_tuned_configs
    from autotune.interop.tuned_configs import write_tuned_configs as write_tuned_configs
    from autotune.shell.ask_tell import AskTell as AskTell
    from autotune.shell.cache.cache import Cache as Cache
    from autotune.shell.cache.cache import SavedBestConfig as SavedBestConfig
    from autotune.shell.cache.cache import get_cache_dir as get_cache_dir
    from autotune.shell.cache.cache import iter_cache_entries as iter_cache_entries
    from autotune.shell.cache.cache import triton_cache_dir as triton_cache_dir
    from autotune.shell.cache.identity import Identity as Identity
    from autotune.shell.cache.identity import installed_versions as installed_versions
    from autotune.shell.cache.identity import key_for as key_for
    from autotune.shell.cache.inspect import explain as explain
    from autotune.shell.cache.keys import Device as Device
    from autotune.shell.cache.keys import LooseKey as LooseKey
    from autotune.shell.cache.keys import Specialization as Specialization
    from autotune.shell.cache.keys import StrictKey as StrictKey
    from autotune.shell.cache.keys import Versions as Versions
    from autotune.shell.cache.warm_start import WarmStart as WarmStart
    from autotune.shell.evaluators.callable import CallableEvaluator as CallableEvaluator
    from autotune.shell.evaluators.protocol import Evaluator as Evaluator
    from autotune.shell.evaluators.protocol import Session as Session
    from autotune.shell.evaluators.simulated import Disturbance as Disturbance
    from autotune.shell.evaluators.simulated import SimulatedEvaluator as SimulatedEvaluator
    from autotune.shell.files import load_config as load_config
    from autotune.shell.files import save_config as save_config
    from autotune.shell.plans import make_plan as make_plan
    from autotune.shell.replay import Replay as Replay
    from autotune.shell.replay import replay as replay
    from autotune.shell.settings import Environment as Environment
    from autotune.shell.settings import environment as environment
    from autotune.shell.tuning import Problem as Problem
    from autotune.shell.tuning import resume as resume
    from autotune.shell.tuning import tune as tune
    from autotune.version import __version__ as __version__
else:
    # `triton` is left out of `from autotune import *`, which must not hide the package of that name.
    __getattr__, __dir__ = lazy_names(__name__, unstarred=("triton",))

    import os as _os

    if _os.environ.get("AUTOTUNE_TRITON_INSTALL", "").strip():  # only then is anything imported here
        from autotune.backends.triton_decorator.startup import install_at_import

        install_at_import()
