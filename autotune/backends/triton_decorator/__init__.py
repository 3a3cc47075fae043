"""`autotune.triton`, which stands where `triton.autotune` stood: tuning at a kernel's first call, in place."""
