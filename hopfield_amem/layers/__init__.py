"""WHERE IT IS USED: nn.Modules built from an energy spec, the only owners of parameters."""

from .lookup import HopfieldLookup

__all__ = ["HopfieldLookup"]
