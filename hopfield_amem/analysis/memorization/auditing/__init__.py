"""How much of a data set one given model has memorised, and how much it could."""
