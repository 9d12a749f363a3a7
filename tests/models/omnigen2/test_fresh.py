"""How a fresh language model begins: two kinds of matrices as the config says, all else as without."""

import jax
import numpy as np
import pytest

from sgt_jax.errors import ConfigError
from sgt_jax.models.family import by_name
from sgt_jax.trees import path_name
from tests.support import tiny_omnigen2

SCALES = {"residual_init": 0.5, "merger_init": 4.0}
KINDS = {"o_proj": "residual_init", "down_proj": "residual_init", "mlp_2": "merger_init"}


def fresh(**changes):
    """{name: values} of the language model and its eyes."""
    config = tiny_omnigen2.config(**changes)
    params = by_name("omnigen2").model(config).init(jax.random.key(0))["mllm"]
    return {path_name(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(params)}


def test_what_writes_into_the_stream_and_what_is_seen_begin_as_the_config_says():
    plain, scaled = fresh(), fresh(**SCALES)
    changed = set()
    for name, values in plain.items():
        kind = KINDS.get(name.split("/")[-2]) if name.endswith("kernel") else None
        np.testing.assert_allclose(scaled[name], values * SCALES.get(kind, 1.0), rtol=1e-6, err_msg=name)
        changed |= {name.split("/")[-2]} if kind else set()
    assert changed == set(KINDS)


@pytest.mark.parametrize("changes", [dict(residual_init=-1.0), dict(merger_init=0.0)])
def test_a_spread_below_zero_is_one_line(changes):
    with pytest.raises(ConfigError, match="residual_init .* multiples of a spread"):
        tiny_omnigen2.config(**changes)
