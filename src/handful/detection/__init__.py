"""Irene: objects found in images, of classes taught in seconds."""
