"""Worker processes: how they start, get orders, answer, run out of time and end. Nothing here knows about kernels.

- `pool` is the parent's side: workers, their orders, replies and deadlines.
- `child` is the worker's side: it obeys one order after another and ends if an earlier job has changed the process.
- `messages` holds the frames that both sides exchange.
- `os_process` and `supervisor` start a process so that it, and everything it has started, ends with the program.
- `fork_server` starts workers in milliseconds, by forking a process that has loaded everything already.
- `gpu_lock` lets one process of the machine at a time use a GPU.
"""
