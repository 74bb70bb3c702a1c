"""Training compact networks: resumed to the bit, measured by rules that come with every number."""
