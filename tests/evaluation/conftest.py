"""Sources that tests of evaluators share."""

import pytest
from sgt_jax.configs.study import first_bed

from sgt_jax.data.sources import open_source


@pytest.fixture(scope="session")
def sources():
    """Those of configs/study/first_bed.py by name."""
    return {name: open_source(spec) for name, spec in first_bed.get_config().data.sources.to_dict().items()}
