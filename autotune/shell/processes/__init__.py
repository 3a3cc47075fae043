"""Worker processes: started, talked to, timed out and ended. Nothing here knows about kernels."""
