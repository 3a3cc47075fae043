"""Other tuners beside this one: their strategies in our studies (`peers`), ours in their tuning runs."""
