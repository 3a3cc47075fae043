"""Earlier measurements on disk: typed keys, one JSON file for each run and key, layers of directories, warm starts.

Nothing here takes a lock (docs/design/no_locks_in_the_cache.md): each file is written once, under a name of its own,
and published by a rename. So writers never collide, a reader sees a whole file or none, and the measurements of a key
are the union of its files.
"""
