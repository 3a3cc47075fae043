"""The pure core: no clock, no files, no logging, no globals. Numpy and msgspec only."""
