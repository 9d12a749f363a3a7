"""t-SNE maps that come out the same every time. They are for looking at; the numbers beside them come from a probe."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from sgt_jax.errors import DataError

COMPONENTS, PERPLEXITY = 50, 30.0


@threadpool_limits.wrap(limits=1)  # sums come out in one order
def t_sne(features: np.ndarray, seed: int = 0, perplexity: float = PERPLEXITY) -> np.ndarray:
    """Features [n, width] -> points [n, 2]: standardised, 50 principal components, t-SNE that starts from the first two.

    Raises:
      DataError: too few examples for the perplexity.
    """
    features = np.asarray(features, np.float64)
    if len(features) <= 3 * perplexity:
        raise DataError(f"t-SNE of perplexity {perplexity:g} wants more than {3 * perplexity:g} pictures: raise --n")
    x = StandardScaler().fit_transform(features)
    x = PCA(min(COMPONENTS, *x.shape), svd_solver="full").fit_transform(x)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(x)
