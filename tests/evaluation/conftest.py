"""Sources that tests of evaluators share."""

import pytest
from sgt_jax.configs import nano_sgt

from sgt_jax.data.sources import open_source


@pytest.fixture(scope="session")
def sources():
    """Those of configs/nano_sgt.py by name."""
    return {name: open_source(spec) for name, spec in nano_sgt.get_config().data.sources.to_dict().items()}
