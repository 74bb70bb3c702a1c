"""Real images and who said what about them."""
