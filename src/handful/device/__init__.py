"""Onto the phone, and proof."""
