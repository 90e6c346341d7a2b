"""The retrieval SNR of a memory: how much noise the other keys add to what a stored key is answered with."""

from .closed import closed
from .exact import inverse_snr, printed_inverse_snr
from .inverse import InverseSNR
from .keys import AveragedGaussianKeys, GaussianKeys, Keys, SphericalKeys
from .measure import measured_inverse_snr
from .required import RequiredDim, required_dim
from .sweep import SNRPoint, SNRSweep, snr_sweep
from .values import value_bias

__all__ = [
    "AveragedGaussianKeys", "GaussianKeys", "InverseSNR", "Keys", "RequiredDim", "SNRPoint", "SNRSweep", "SphericalKeys", "closed", "inverse_snr",
    "measured_inverse_snr", "printed_inverse_snr", "required_dim", "snr_sweep", "value_bias",
]  # fmt: skip
