"""Training compact networks: resumed to the bit, measured by rules that are said."""
