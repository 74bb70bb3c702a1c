"""How a store made by an older handful becomes one of this handful."""
