"""``python -m hopfield_amem.cli``."""

from . import app

app()
