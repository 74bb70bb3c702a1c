"""Compact networks for phones, and how a network is kept on disk."""
