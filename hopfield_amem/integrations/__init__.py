"""Other people's libraries, and what of this one serves them."""
