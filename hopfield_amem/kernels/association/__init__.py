"""Memories that are written token by token, at several speeds. ``associate`` is the door."""
