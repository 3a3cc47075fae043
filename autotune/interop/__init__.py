"""Other tuners and libraries: our strategies in their tuning runs, theirs in our studies, and their tuned configs."""
