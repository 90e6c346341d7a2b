"""Hand-written kernels: load, pair, score, weigh, accumulate, store. Generated leaf functions and folds enter as compile-time arguments."""
