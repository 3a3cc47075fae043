"""Strategies of other tuners, driven over recordings; `autotune.studies.peers` looks the modules up by name."""
