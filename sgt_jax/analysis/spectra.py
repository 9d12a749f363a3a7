"""How many directions hidden states use: entropy of their singular values, effective rank, components for their energy."""

from typing import NamedTuple

import numpy as np

ENERGIES = (0.9, 0.95, 0.99)


class Spectrum(NamedTuple):
    """Of one matrix [tokens, width], uncentred.

    Attributes:
      entropy: -sum s ln s of the singular values, normalised to sum 1; in nats.
      rank: exp(entropy): n equal directions give n.
      components: how many directions hold 90, 95 and 99 % of the squared singular values.
    """

    entropy: float
    rank: float
    components: tuple[int, ...]


def spectrum(hidden: np.ndarray) -> Spectrum:
    """The spectrum of hidden states [tokens, width]; all zero gives rank 0."""
    values = np.linalg.svd(np.asarray(hidden, np.float64), compute_uv=False)
    if not values.size or values[0] == 0:
        return Spectrum(0.0, 0.0, (0,) * len(ENERGIES))
    share = values / values.sum()
    share = share[share > 0]
    entropy = float(-np.sum(share * np.log(share)))
    energy = np.cumsum(values**2) / np.sum(values**2)
    # Rounding may leave the last sum just below 1.
    return Spectrum(
        entropy, float(np.exp(entropy)), tuple(int(np.searchsorted(energy, e - 1e-12)) + 1 for e in ENERGIES)
    )
