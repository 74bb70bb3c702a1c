"""Where a compiled model runs: here, in a process of its own."""
