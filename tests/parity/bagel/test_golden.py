"""BAGEL against the recorded numbers of the reference: activations, losses, gradients, optimizer steps."""

import functools

import jax
import numpy as np
import pytest

from sgt_jax.commands import parity
from sgt_jax.parity import sections
from sgt_jax.parity.bagel import training
from sgt_jax.parity.bagel.folder import Folder
from sgt_jax.parity.bagel.sections import SECTIONS
from sgt_jax.parity.checks import compare
from tests.support import paths

GOLDEN = paths.GOLDEN / "bagel"


@pytest.fixture(scope="module")
def folder():
    return Folder(GOLDEN)


@pytest.fixture(scope="module")
def checks_of(folder):
    return functools.cache(lambda section: sections.run(folder, SECTIONS, [section]))


def failures(checks):
    return [check for check in checks if check.ok is False]


# Sampling takes most of the time; .ci/run compares all sections once more as users compile.
@pytest.mark.parametrize(
    "section", [pytest.param(name, marks=pytest.mark.slow if name == "inference" else ()) for name in SECTIONS]
)
def test_section(checks_of, section):
    checks = checks_of(section)
    assert checks and not failures(checks)


def test_every_recorded_array_is_compared(folder, checks_of):
    compared = {check.array for check in checks_of("train")}
    compared |= {f"alt_shift/{check.array}" for check in checks_of("alt_shift")}
    assert set(folder.expected) <= compared
    skipped = {check.array for check in checks_of("train") if check.ok is None}
    # The recording of these is broken: all eight are copies of vae_moments[0] (see the next test instead).
    assert skipped == {f"unpadded/vae_moments_{i}" for i in range(8)}


@pytest.mark.slow  # what the section of that name compiles
def test_inference_compares_every_recorded_array(folder, checks_of):
    recorded = set(folder.arrays("inference.npz"))
    inputs = {name for name in recorded if name.endswith(("image_rgb", "vae_eps", "init_noise", "image_shape"))}
    assert recorded - inputs == {check.array for check in checks_of("inference")}


def test_a_picture_alone_differs_from_the_padded_canvas_as_specified(folder):
    """The specification (weak point 1) says by 19-48 %: the only word on this that the broken recording leaves."""
    pixels = folder.inputs["padded_images"].transpose(0, 2, 3, 1)
    encode = jax.jit(folder.model.encode_moments)
    changes = []
    for picture, padded, (h, w) in zip(
        pixels, folder.expected["vae_moments"], folder.inputs["patchified_vae_latent_shapes"]
    ):
        stride, patch = folder.config.latent_stride, folder.config.latent_patch_size
        alone = np.asarray(encode(folder.params, picture[None, : h * stride, : w * stride]))[0].transpose(2, 0, 1)
        mean = slice(folder.config.vae.z_channels)
        alone, padded = alone[mean], padded[mean, : h * patch, : w * patch]
        changes.append(np.linalg.norm(alone - padded) / np.linalg.norm(alone))
    assert (round(min(changes), 2), round(max(changes), 2)) == (0.19, 0.48)


def test_scanned_blockwise_recomputed_gives_the_same_gradients():
    changes = dict(scan_layers=True, remat="dots", attention="blockwise", attention_block=100)
    folder = Folder(GOLDEN, **changes)
    (loss, _), gradients = folder.train_gradient(folder.trainable)
    checks = [compare("train", "loss_total", loss, folder.expected["loss_total"])]
    checks += training.check_gradients("train", folder.published(gradients), folder.expected)
    assert len(checks) > 150 and not failures(checks)


def test_wrong_numbers_are_noticed(folder):
    right = folder.expected["velocity_pred"]
    assert compare("s", "a", right, right).ok
    assert not compare("s", "a", right + 1e-3, right).ok
    assert not compare("s", "a", right[:-1], right).ok
    broken = right.copy()
    broken[0, 0] = np.nan
    assert not compare("s", "a", broken, right).ok

    wrong_shift = Folder(GOLDEN)
    wrong_shift.settings = {**folder.settings, "alt_timestep_shift": 2.9}
    assert len(failures(sections.run(wrong_shift, SECTIONS, ["alt_shift"]))) >= 4


def test_command(capsys):
    assert parity.main([str(GOLDEN), "inputs", "positions"]) == 0
    out = capsys.readouterr().out
    assert "2 arrays compared" in out and "29 arrays compared" in out and "31 of 31 arrays agree" in out
    with pytest.raises(SystemExit, match="2"):
        parity.main([])
    assert parity.main([str(GOLDEN), "nonsense"]) == 2


def test_command_fails_when_a_number_is_off(capsys, tmp_path):
    copy = tmp_path / "golden"
    (copy / "ckpt").mkdir(parents=True)
    for name in ("golden_config.json", "llm_config.json", "vit_config.json"):
        (copy / "ckpt" / name).write_bytes((GOLDEN / "ckpt" / name).read_bytes())
    with np.load(GOLDEN / "positions_and_time.npz") as file:
        arrays = dict(file)
    arrays["sincos_dim64_grid16"] = arrays["sincos_dim64_grid16"] + np.float32(1e-3)
    np.savez(copy / "positions_and_time.npz", **arrays)
    assert parity.main([str(copy), "positions"]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.endswith("  NO")]
    assert len(failed) == 1 and failed[0].split()[:2] == ["positions", "sincos_dim64_grid16"]
