"""The papers that a search stands on, in one place; the code names them where it uses them."""

HOOKE_JEEVES = (
    'R. Hooke and T. A. Jeeves, "Direct search solution of numerical and statistical problems", J. ACM 8 (1961)'
)
BERGSTRA = 'J. Bergstra and Y. Bengio, "Random search for hyper-parameter optimization", JMLR 13 (2012)'
STORN = (
    'R. Storn and K. Price, "Differential evolution: a simple and efficient heuristic for global optimization over'
    ' continuous spaces", J. Global Optimization 11 (1997)'
)
SONG = 'J. Song et al., "A general recipe for likelihood-free Bayesian optimization", ICML 2022'
BREIMAN = 'L. Breiman, "Random forests", Machine Learning 45 (2001)'
SCIKIT_LEARN = 'F. Pedregosa et al., "Scikit-learn: machine learning in Python", JMLR 12 (2011)'
JONES = (
    'D. R. Jones, M. Schonlau and W. J. Welch, "Efficient global optimization of expensive black-box functions",'
    " J. Global Optimization 13 (1998)"
)
WILLEMSEN = (
    'F.-J. Willemsen, R. van Nieuwpoort and B. van Werkhoven, "Bayesian optimization for auto-tuning GPU kernels",'
    " PMBS 2021"
)
RASMUSSEN = 'C. E. Rasmussen and C. K. I. Williams, "Gaussian processes for machine learning", MIT Press (2006)'
DUVENAUD = 'D. Duvenaud, H. Nickisch and C. E. Rasmussen, "Additive Gaussian processes", NIPS 2011'
GINSBOURGER = (
    'D. Ginsbourger, R. Le Riche and L. Carraro, "Kriging is well-suited to parallelize optimization", in Computational'
    " Intelligence in Expensive Optimization Problems (2010)"
)
JIN = (
    'Y. Jin, "Surrogate-assisted evolutionary computation: recent advances and future challenges", Swarm and'
    " Evolutionary Computation 1 (2011)"
)
MISIC = 'V. V. Mišić, "Optimization of tree ensembles", Operations Research 68 (2020)'
KARNIN = 'Z. Karnin, T. Koren and O. Somekh, "Almost optimal exploration in multi-armed bandits", ICML 2013'
DORFMAN = 'R. Dorfman, "The detection of defective members of large populations", Ann. Math. Statist. 14 (1943)'
DAVID = 'H. A. David and H. N. Nagaraja, "Order statistics", 3rd edition, Wiley (2003)'

MACHINE_REFERENCES = (KARNIN, DORFMAN, DAVID)
"""Of the final comparison: its heats, its test of parameters in groups, and its intervals."""

STRATEGY_REFERENCES: dict[str, tuple[str, ...]] = {
    "random_search": (BERGSTRA,),
    "finite_search": (RASMUSSEN, DUVENAUD),
    "pattern_search": (HOOKE_JEEVES,),
    "lfbo_pattern_search": (SONG, HOOKE_JEEVES, BREIMAN, SCIKIT_LEARN),
    "lfbo_tree_search": (SONG, MISIC, HOOKE_JEEVES, BREIMAN, SCIKIT_LEARN),
    "differential_evolution": (STORN,),
    "de_surrogate_hybrid": (STORN, JIN, BREIMAN, SCIKIT_LEARN),
    "gaussian_process": (JONES, WILLEMSEN, RASMUSSEN, DUVENAUD, GINSBOURGER),
}
"""Of a finite search: the model by which a `Budget(regret=…)` stops it."""


def references_of(strategy: str) -> tuple[str, ...]:
    """The papers of a strategy by its name; none for one of another package, whose own pages name them."""
    return STRATEGY_REFERENCES.get(strategy, ())
