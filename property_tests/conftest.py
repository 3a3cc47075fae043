"""How many examples the laws are tried on."""

from hypothesis import settings

# Half of Hypothesis' usual number, so that all tests take six minutes; `--hypothesis-profile=default` tries all.
settings.register_profile("half", max_examples=50)
settings.load_profile("half")
