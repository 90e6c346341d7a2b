"""Story 2: what a memory holds. Recall of real digits against the number stored, measured and predicted, for three energies."""
