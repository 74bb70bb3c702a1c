"""Phone runtimes: one file each."""
