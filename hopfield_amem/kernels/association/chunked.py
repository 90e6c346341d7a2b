"""Bounded memory: chunks of a matrix state, or blocks of a triangular system. To come."""

from .reference import reference as chunked

kernels = chunked
