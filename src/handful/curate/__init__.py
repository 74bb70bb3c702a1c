"""Data made fit for use: checked, mended, converted, balanced, split, looked at."""
