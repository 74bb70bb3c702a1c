"""Irene: things found in photos, of classes taught in seconds."""
