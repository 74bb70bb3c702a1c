"""Learn from a handful of images."""
