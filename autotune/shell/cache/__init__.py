"""What was measured before, on disk: typed keys, one JSON file a run and key, layers of directories, and warm starts.

Nothing here takes a lock. A file is written once under a name of its own and published by a rename, so writers never
meet, a reader never sees half of one, and what several runs know of a key is the union of their files.
"""
