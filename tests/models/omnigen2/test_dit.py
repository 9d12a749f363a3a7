"""The diffusion transformer: packed lanes, ways to compute it, and its published folder."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax import trees
from sgt_jax.checkpoints.exporting import write_published
from sgt_jax.errors import CheckpointError, ConfigError
from sgt_jax.models.omnigen2 import dit_names
from sgt_jax.models.omnigen2.config import DitConfig
from sgt_jax.models.omnigen2.dit import Dit
from sgt_jax.parity.omnigen2.pack import Sample, pack
from sgt_jax.parity.omnigen2.transformer import dit_only
from tests.support import paths

GOLDEN = paths.GOLDEN / "omnigen2"
TINY = DitConfig(
    patch_size=2, in_channels=2, hidden_size=24, num_layers=2, num_refiner_layers=1, num_attention_heads=2,
    num_kv_heads=1, multiple_of=8, axes_dim_rope=(4, 4, 4), text_feat_dim=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def row():
    draw = np.random.default_rng(0).standard_normal
    samples = [
        Sample(draw((2, 4, 4)), (draw((2, 2, 4)),), draw((3, 8)), 0.3),
        Sample(draw((2, 4, 2)), (), draw((2, 8)), 0.7),
    ]
    return pack(samples, 2, sizes=(8, 4, 8, 2))


@pytest.fixture(scope="module")
def params():
    shapes = jax.eval_shape(Dit(dit_only(TINY, scan_layers=True)).init, jax.random.key(0), *_zeros())["params"]
    draw = np.random.default_rng(1).standard_normal
    return jax.tree.map(lambda x: jnp.asarray(0.3 * draw(x.shape), jnp.float32), shapes)


def _zeros():
    facts = {name: jnp.zeros((1, 2), jnp.int32) for name in ("sample", "split", "flow", "index")}
    facts["position"] = jnp.zeros((1, 2, 3), jnp.int32)
    token = jnp.zeros((1, 2, TINY.token_width))
    return jnp.zeros((1, 2, 8)), token, token, jnp.zeros((1, 1)), dict.fromkeys(("text", "ref", "gen"), facts)


def gradient(params, row, **changes):
    model = Dit(dit_only(TINY, scan_layers=True, **changes))

    @jax.jit
    def run(params):
        velocity, _ = model.apply({"params": params}, *row.arguments)
        return jnp.sum(velocity**2 * (row.lanes["gen"]["sample"] > 0)[..., None])

    return jax.value_and_grad(run)(params)


@pytest.mark.slow  # two gradients of all four stacks to compile
def test_recomputed_blockwise_bfloat16_gradients_are_those_of_the_plain_model(params, row):
    _, plain = gradient(params, row)
    _, other = gradient(params, row, remat="full", attention="blockwise", attention_block=4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), other, plain)
    _, rounded = gradient(params, row, dtype="bfloat16")
    assert {x.dtype for x in jax.tree.leaves(rounded)} == {jnp.dtype("float32")}


def test_what_stands_beside_a_sample_does_not_matter(params, row):
    """Padding and pack mates: the first sample alone, without padding, has the same velocity."""
    model = Dit(dit_only(TINY, scan_layers=True))
    run = jax.jit(lambda *arguments: model.apply({"params": params}, *arguments)[0])
    together = run(*row.arguments)
    lanes = {n: {f: x[:, :s] for f, x in row.lanes[n].items()} for n, s in (("text", 3), ("ref", 2), ("gen", 4))}
    alone = run(row.features[:, :3], row.references[:, :2], row.noisy[:, :4], row.times[:, :1], lanes)
    np.testing.assert_allclose(together[:, :4], alone, rtol=1e-5, atol=1e-5)


def test_a_published_transformer_comes_back_to_the_byte(tmp_path):
    for scan in (False, True):
        params, config = dit_names.load_dit(GOLDEN / "transformer", scan_layers=scan)
        names = dit_names.dit_names(config, scan)
        flat = trees.flat(params)
        write_published(tmp_path / str(scan), names, flat.__getitem__, metadata={"format": "pt"})
        published = (GOLDEN / "transformer" / dit_names.WEIGHTS).read_bytes()
        assert (tmp_path / str(scan)).read_bytes() == published


def test_the_released_transformer_has_its_number_of_parameters_and_tensors():
    names = dit_names.dit_names(DitConfig())
    assert len(names) == 582
    assert sum(int(np.prod(source.shape)) for source in names.values()) == 3_967_161_400
    assert DitConfig().mlp_width == 10240 and DitConfig().time_width == 1024


@pytest.mark.parametrize(
    "change, word",
    [
        (dict(num_kv_heads=3), "key-value heads"),
        (dict(axes_dim_rope=(4, 4, 2)), "head size"),
        (dict(axes_dim_rope=(4, 5, 3)), "even"),
        (dict(out_channels=3), "out_channels"),
        (dict(num_attention_heads=5), "do not divide"),
    ],
)
def test_sizes_that_do_not_fit_are_one_line(change, word):
    with pytest.raises(ConfigError, match=word):
        DitConfig(**{**TINY.__dict__, **change})


def test_a_damaged_folder_is_one_clear_error(tmp_path):
    folder = tmp_path / "transformer"
    shutil.copytree(GOLDEN / "transformer", folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "num_layers": 4}))
    with pytest.raises(CheckpointError, match="missing:\n  layers.3"):
        dit_names.load_dit(folder)
    del values["hidden_size"]
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="lacks hidden_size"):
        dit_names.load_dit(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        dit_names.load_dit(folder)
