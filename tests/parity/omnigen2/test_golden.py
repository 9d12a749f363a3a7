"""OmniGen2 against the recorded numbers of the reference."""

import functools

import numpy as np
import pytest

from sgt_jax.parity import sections
from sgt_jax.parity.omnigen2.folder import Folder
from sgt_jax.parity.omnigen2.sections import SECTIONS
from tests.support import paths

GOLDEN = paths.GOLDEN / "omnigen2"


@pytest.fixture(scope="module")
def folder():
    return Folder(GOLDEN)


@pytest.fixture(scope="module")
def checks_of(folder):
    return functools.cache(lambda section: sections.run(folder, SECTIONS, [section]))


# One gradient of both models to compile, and five loops of sampling: 30 to 60 s each on two busy cores.
LONG = ("joint_step", "train_loop", "pipeline")


@pytest.mark.parametrize(
    "section", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in SECTIONS]
)
def test_section(checks_of, section):
    checks = checks_of(section)
    assert checks and not [check for check in checks if check.ok is False]
    assert all(check.ok or check.note.startswith("not applicable") for check in checks)


def test_every_array_of_the_autoencoder_is_compared(folder, checks_of):
    inputs = {
        "image_uint8",
        "preprocess.max_pixels",
        "preprocess.max_side_length",
        "encode.eps",
        "decode.latent_scaled",
    }
    assert {check.array for check in checks_of("vae")} == set(folder.arrays("vae.npz")) - inputs


def test_bounds_are_those_of_the_readme(folder):
    assert folder.bounds["vae.npz", "decode.image"] == 1.1e-4
    assert folder.bounds["mllm.npz", "position_ids"] == 0
    right = folder.arrays("vae.npz")["decode.image"]
    assert folder.check("vae", "vae.npz", "decode.image", right + 1e-4).ok
    assert not folder.check("vae", "vae.npz", "decode.image", right + 2e-4).ok
    assert not folder.check("vae", "vae.npz", "decode.image", np.where(right > 0, np.nan, right)).ok


def test_every_array_of_the_transformer_is_compared(folder, checks_of):
    recorded = {name for name in folder.arrays("transformer.npz") if not name.startswith(("in.", "plain.in."))}
    assert {check.array for check in checks_of("transformer")} == recorded
