"""The BAGEL model's own promises: roads to latents, padding, empty lanes, caches, capture, freezing, dtypes, stacks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax.batch import TokenInfo
from sgt_jax.models.bagel.config import BagelConfig
from sgt_jax.models.bagel.model import Bagel, position_tables
from sgt_jax.models.layers import patchify_latents, unpatchify_latents
from sgt_jax.models.stack import stacked, unstacked
from sgt_jax.training.objectives import sgt
from tests.support import tiny_bagel as tiny

LOSS = type("Loss", (), dict(ce_weight=1.0, mse_weight=1.0, ce_loss_reweighting=False))


@pytest.fixture(scope="module")
def model():
    return Bagel(tiny.config())


@pytest.fixture(scope="module")
def params(model):
    """Fresh parameters, with a head that is not zero."""
    made = model.init(jax.random.key(0))
    shape = made["llm2vae"]["kernel"].shape
    made["llm2vae"]["kernel"] = 0.2 * jax.random.normal(jax.random.key(1), shape)
    return made


@pytest.fixture(scope="module")
def batch():
    """Two rows: three samples, and two of them with other pictures."""
    return tiny.batch([tiny.plans(0), tiny.plans(10)[1:]])


@pytest.fixture(scope="module")
def draws(model, batch):
    return jax.device_get(jax.jit(model.draw)(jax.random.key(5), batch))


CAPTURE = ("vit_out", "connector_out", "input_embeds", "hidden_0", "hidden_1", "q_1", "k_1", "v_0", "final_norm")


@pytest.fixture(scope="module")
def outputs(model, params, batch, draws):
    forward = jax.jit(functools.partial(model.forward, capture=CAPTURE + ("clean_latents", "noisy_latents")))
    return jax.device_get(forward(params, batch, draws))


@functools.cache
def compiled(model):
    return jax.jit(model.forward)


def run(model, params, batch, draws):
    return jax.device_get(compiled(model)(params, batch, draws))


def restacked(tree):
    """Unrolled layers as scanned ones."""
    return dict(tree, decoder=stacked(tree["decoder"]), vit=stacked(tree["vit"]))


# -- Shapes and randomness ---------------------------------------------------------------------------------------------


def test_shapes(model, outputs):
    cfg = model.config
    rows, und, gen = 2, tiny.BUDGETS["und"], tiny.BUDGETS["gen"]
    expected = {
        "logits": (rows, 10, 32), "velocity": (rows, gen, 8), "velocity_target": (rows, gen, 8), "t": (rows, gen),
        "noisy": (rows, gen), "vit_out": (rows, 12, 16), "connector_out": (rows, 12, 24),
        "input_embeds": (rows, und + gen, 24), "hidden_0": (rows, und + gen, 24), "hidden_1": (rows, und + gen, 24),
        "q_1": (rows, und + gen, 3, 8), "k_1": (rows, und + gen, 1, 8), "v_0": (rows, und + gen, 1, 8),
        "final_norm": (rows, und + gen, 24), "clean_latents": (rows, gen, 8), "noisy_latents": (rows, gen, 8),
    }  # fmt: skip
    assert {name: x.shape for name, x in outputs.items()} == expected
    assert cfg.latent_width == 8 and cfg.latent_stride == 4
    assert outputs["logits"].dtype == outputs["velocity"].dtype == np.float32


def test_draws_follow_the_key_and_nothing_else(model, batch):
    draw = jax.jit(model.draw)
    first, again, other = (jax.device_get(draw(jax.random.key(k), batch)) for k in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again)))
    assert not any((a == b).any() for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other)))
    assert {k: v.shape for k, v in first["vae"].items()} == {"16x16": (2, 2, 8, 8, 2), "8x16": (2, 1, 4, 8, 2)}


def test_all_slots_of_a_picture_share_its_time_and_clean_ones_have_none(batch, outputs):
    gen = batch["gen"]
    for row in range(2):
        for sample in set(gen["sample"][row]) - {0}:
            here = gen["sample"][row] == sample
            times = set(outputs["t"][row][here])
            assert len(times) == 1
            assert (times == {0.0}) == (not outputs["noisy"][row][here].any())
    assert len(set(outputs["t"][outputs["noisy"]])) == 2  # one per noisy picture
    clean = outputs["t"] == 0
    np.testing.assert_array_equal(outputs["noisy_latents"][clean], outputs["clean_latents"][clean])


def test_latents_are_patchified_row_major_with_channels_fastest():
    z = jnp.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    tokens = patchify_latents(z, 2)
    np.testing.assert_array_equal(tokens[1, 4], z[1, 2:4, 2:4].reshape(-1))  # second row, second column
    np.testing.assert_array_equal(unpatchify_latents(tokens, (2, 3), 2), z)


# -- Three roads to latents --------------------------------------------------------------------------------------------


def test_moments_and_latents_give_what_pixels_give(model, params, batch, draws, outputs):
    """A batch with tokenised moments, or with finished latents, is the same batch."""
    gen = dict(batch["gen"])
    names = [name for name in gen if name.startswith("picture:")]
    encode = jax.jit(model.encode_moments)
    shape = (*gen["sample"].shape, 8)
    moments = {part: np.zeros(shape, np.float32) for part in ("mean", "logvar", "noise")}
    for name in names:
        size = name.removeprefix("picture:")
        pixels = batch["pixels:" + size]["pixels"]
        mean, logvar = np.split(jax.device_get(encode(params, pixels.reshape(-1, *pixels.shape[2:]))), 2, axis=-1)
        noise = draws["vae"][size].reshape(mean.shape)
        for part, z in (("mean", mean), ("logvar", logvar), ("noise", noise)):
            tokens = np.asarray(patchify_latents(z, 2)).reshape(2, pixels.shape[1], -1, 8)
            for row, slot in np.argwhere(gen[name] >= 0):
                moments[part][row, slot] = tokens[row, gen[name][row, slot], gen["token"][row, slot]]
        del gen[name]
    rest = {lane: fields for lane, fields in batch.items() if not lane.startswith("pixels:")}
    both = np.concatenate([moments["mean"], moments["logvar"]], axis=-1)
    from_moments = run(
        model, params, rest | {"gen": gen | {"moments": both}}, dict(draws, vae={"moments": moments["noise"]})
    )
    from_latents = run(model, params, rest | {"gen": gen | {"latents": outputs["clean_latents"]}}, dict(draws, vae={}))
    real = batch["gen"]["sample"] > 0
    for got in (from_moments, from_latents):
        np.testing.assert_allclose(got["velocity"][real], outputs["velocity"][real], atol=1e-5)
        np.testing.assert_allclose(got["velocity_target"][real], outputs["velocity_target"][real], atol=1e-5)
    drawn = jax.eval_shape(model.draw, jax.random.key(0), rest | {"gen": gen | {"moments": both}})
    assert {k: v.shape for k, v in drawn["vae"].items()} == {"moments": shape}


def test_a_latent_depends_on_its_own_picture_only(model, params, batch, draws, outputs):
    other = jax.tree.map(np.copy, batch)
    other["pixels:16x16"]["pixels"][1] = 7  # row 1's pictures
    changed = run(model, params, other, draws)
    np.testing.assert_allclose(changed["velocity_target"][0], outputs["velocity_target"][0], atol=1e-6)
    assert np.abs(changed["velocity_target"][1] - outputs["velocity_target"][1]).max() > 0.1


# -- Padding and empty lanes -------------------------------------------------------------------------------------------


def test_larger_budgets_change_nothing(model, params, batch, draws, outputs):
    more = {lane: n + 5 for lane, n in tiny.BUDGETS.items()}
    wide = tiny.batch([tiny.plans(0), tiny.plans(10)[1:]], more)
    padded = {
        "time": np.pad(draws["time"], ((0, 0), (0, 5)), constant_values=3.0),
        "noise": np.pad(draws["noise"], ((0, 0), (0, 5), (0, 0)), constant_values=3.0),
        "vae": {k: np.pad(v, ((0, 0), (0, 5), (0, 0), (0, 0), (0, 0))) for k, v in draws["vae"].items()},
    }
    got = run(model, params, wide, padded)
    labels = batch["labels"]["weight"] > 0
    np.testing.assert_allclose(got["logits"][:, :10][labels], outputs["logits"][labels], atol=1e-5)
    noisy = outputs["noisy"]
    np.testing.assert_allclose(got["velocity"][:, :32][noisy], outputs["velocity"][noisy], atol=1e-5)
    np.testing.assert_allclose(
        sgt.sgt_objective(got, wide, LOSS)[0], sgt.sgt_objective(outputs, batch, LOSS)[0], rtol=1e-5
    )


def test_samples_of_a_row_do_not_see_each_other(model, params, batch, outputs, draws):
    # The same shapes as before, so nothing is compiled again; row 1 stays empty.
    alone = run(model, params, tiny.batch([tiny.plans(0)[:1], ()]), draws)
    count = int((batch["labels"]["sample"][0] == 1).sum())
    np.testing.assert_allclose(alone["logits"][0, :count], outputs["logits"][0, :count], atol=1e-5)


@pytest.mark.parametrize(
    "plans, zero_lanes",
    [
        ((), ()),
        (tiny.plans()[:1], ("gen", "pixels:16x16", "pixels:8x16")),
        (tiny.plans()[1:2], ("vit", "labels", "pixels:16x16")),
    ],
    ids=["nothing at all", "no latents", "no pictures seen, no labels"],
)
def test_missing_content_keeps_loss_and_gradients_finite(model, params, plans, zero_lanes):
    budgets = {lane: 0 if lane in zero_lanes else n for lane, n in tiny.BUDGETS.items()}
    batch = tiny.batch([plans], budgets)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        draws = model.draw(jax.random.key(0), batch)
        return sgt.sgt_objective(model.forward(params, batch, draws), batch, LOSS)[0]

    value, gradients = loss(params)
    assert np.isfinite(value) and (value == 0) == (not plans)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


def test_uint8_patches_equal_floats(model, params, batch, draws, outputs):
    floats = jax.tree.map(lambda x: x, batch)
    floats["vit"] = dict(floats["vit"], patches=batch["vit"]["patches"].astype(np.float32) / 127.5 - 1)
    floats["pixels:16x16"] = {"pixels": batch["pixels:16x16"]["pixels"].astype(np.float32) / 127.5 - 1}
    got = run(model, params, floats, draws)
    np.testing.assert_allclose(got["logits"], outputs["logits"], atol=1e-6)
    np.testing.assert_allclose(got["velocity"], outputs["velocity"], atol=1e-5)


# -- Gradients ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gradients(model, params, batch, draws):
    def loss(params):
        return sgt.sgt_objective(model.forward(params, batch, draws), batch, LOSS)[0]

    return jax.device_get(jax.jit(jax.grad(loss))(params))


def test_tables_and_autoencoder_get_no_gradient_everything_else_does(gradients):
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        name = jax.tree_util.keystr(path)
        fixed = path[0].key in ("vae", "vit_pos_embed", "latent_pos_embed")
        assert gradient.any() != fixed, name


def test_recomputed_scanned_blockwise_gradients_are_the_same(params, batch, draws, gradients):
    other = Bagel(tiny.config(remat="full", scan_layers=True, attention="blockwise", attention_block=17))

    def loss(params):
        return sgt.sgt_objective(other.forward(params, batch, draws), batch, LOSS)[0]

    assert jax.tree.structure(jax.eval_shape(other.init, jax.random.key(0))) == jax.tree.structure(restacked(params))
    got = jax.jit(jax.grad(loss))(restacked(params))
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(restacked(gradients))):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1, np.abs(b).max()), err_msg=jax.tree_util.keystr(path))


# -- Cache -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scan", [False, True], ids=["unrolled", "scanned"])
def test_reading_in_two_parts_with_a_cache_equals_one_pass(scan, params, batch, outputs):
    """First the context, keeping keys and values; then text and a noisy picture that see it only through the cache."""
    model = Bagel(tiny.config(scan_layers=scan))
    params = restacked(params) if scan else params
    whole = outputs
    info = [TokenInfo.of(batch[lane]) for lane in ("und", "gen")]
    everything = TokenInfo(*(np.concatenate(pair, axis=1) for pair in zip(*info)))
    budgets = tiny.BUDGETS
    # Later splits of every sample are read second; slots of the other part are marked as padding.
    later = [np.asarray(x.split) >= 1 for x in info]
    embeds = np.split(np.asarray(whole["input_embeds"]), [budgets["und"]], axis=1)

    def masked(keep):
        return [x._replace(sample=np.where(k, x.sample, 0)) for x, k in zip(info, keep)]

    decode = jax.jit(functools.partial(model.decode, return_kv=True, capture=("k_1",)))
    _, _, first = decode(params, *embeds, *masked([~k for k in later]))
    h_und, h_gen, second = decode(params, *embeds, *masked(later), first["cache"])
    got = np.concatenate([h_und, h_gen], axis=1)
    chosen = np.concatenate(later, axis=1) & (everything.sample > 0)
    assert chosen.sum() > 20
    np.testing.assert_allclose(got[chosen], np.asarray(whole["final_norm"])[chosen], atol=2e-5)
    np.testing.assert_allclose(np.asarray(second["cache"].keys[1])[chosen], np.asarray(whole["k_1"])[chosen], atol=2e-5)
    np.testing.assert_array_equal(second["cache"].keys[1], second["k_1"])


def test_decoding_one_token_needs_no_gen_slots(model, params):
    info = TokenInfo(*(jnp.ones((1, 1), jnp.int32),) * 5)
    none = TokenInfo(*(jnp.ones((1, 0), jnp.int32),) * 5)
    decode = functools.partial(model.decode, return_kv=True)
    h_und, h_gen, aux = jax.eval_shape(decode, params, jnp.ones((1, 1, 24)), jnp.ones((1, 0, 24)), info, none)
    assert h_und.shape == (1, 1, 24) and h_gen.shape == (1, 0, 24) and aux["cache"].keys[0].shape == (1, 1, 1, 8)


# -- Fresh parameters --------------------------------------------------------------------------------------------------


def test_scanned_and_unrolled_models_start_alike(params):
    made = jax.jit(lambda key: Bagel(tiny.config(scan_layers=True)).init(key)["vit"])(jax.random.key(0))
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), unstacked(made), params["vit"]))


def test_fresh_model_predicts_zero_velocity(model, params):
    fresh = jax.jit(lambda key: model.init(key)["llm2vae"])(jax.random.key(0))
    assert fresh["kernel"].shape == params["llm2vae"]["kernel"].shape
    assert not fresh["kernel"].any() and not fresh["bias"].any()


def test_generation_weights_start_as_copies():
    model = Bagel(tiny.config(copy_init_moe=True))
    decoder = jax.jit(lambda key: model.init(key)["decoder"])(jax.random.key(0))
    layer = decoder["layers_1"]
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(layer["und"]), jax.tree.leaves(layer["gen"])))
    kernel = np.asarray(layer["und"]["mlp"]["gate_proj"]["kernel"])
    assert abs(kernel.std() - 0.02) < 0.003
    other = np.asarray(decoder["layers_0"]["und"]["mlp"]["gate_proj"]["kernel"])
    assert np.abs(kernel - other).max() > 0.01  # layers differ


def test_fresh_distributions(params):
    """Ranges of the specification's initialisation, by kind of layer."""
    und, gen = (params["decoder"]["layers_0"][lane]["q_proj"]["kernel"] for lane in ("und", "gen"))
    assert not (und == gen).any()  # copy_init_moe is off here
    for name in (("connector", "fc1"), ("time_embedder", "mlp_0"), ("vae2llm",)):
        node = params
        for key in name:
            node = node[key]
        limit = node["kernel"].shape[0] ** -0.5
        for part in ("kernel", "bias"):
            top = np.abs(node[part]).max()
            assert 0.6 * limit < top <= limit, (name, part)
    attention = params["vit"]["layers_0"]["self_attn"]["q_proj"]
    xavier = (6 / (16 + 16)) ** 0.5
    assert 0.8 * xavier < np.abs(attention["kernel"]).max() <= xavier and not attention["bias"].any()
    lecun = np.asarray(params["vit"]["layers_0"]["mlp"]["fc1"]["kernel"]).std()
    assert abs(lecun - 16**-0.5) < 0.03
    assert abs(np.asarray(params["vit"]["position_embedding"]["embedding"]).std() - 16**-0.5) < 0.05
    conv = params["vae"]["encoder"]["mid"]["block_1"]["conv1"]
    limit = (9 * 32) ** -0.5
    assert 0.95 * limit < np.abs(conv["kernel"]).max() <= limit and 0.6 * limit < np.abs(conv["bias"]).max() <= limit
    assert (params["vae"]["encoder"]["norm_out"]["scale"] == 1).all()


def test_random_code_tables():
    config = tiny.config(position_init="random_codes")
    tables = position_tables(config)
    assert {name: table.shape for name, table in tables.items()} == {
        "vit_pos_embed": (16, 24), "latent_pos_embed": (25, 24)
    }  # fmt: skip
    learned = jax.jit(lambda key: Bagel(config).init(key)["vit"]["position_embedding"]["embedding"])(jax.random.key(0))
    for table in (*tables.values(), learned):
        assert 0.8 < np.asarray(table).std() < 1.2
    learned = np.asarray(learned).reshape(4, 4, 16)
    assert (learned[0, 2, :8] == learned[3, 2, :8]).all()  # the column's code
    assert (learned[3, 0, 8:] == learned[3, 2, 8:]).all()  # the row's code
    # Only the fixed tables are scaled; a learned one finds its own size. The scale is part of an exported config.
    larger = config.replace(position_scale=4.0)
    for name, table in position_tables(larger).items():
        np.testing.assert_array_equal(table, 4 * np.asarray(tables[name]))
    assert BagelConfig.from_dict(larger.to_dict()).position_scale == 4.0


# -- Precision ---------------------------------------------------------------------------------------------------------


def test_bfloat16_is_close_and_keeps_what_must_be_float32(batch, draws, params, outputs):
    model = Bagel(tiny.config(dtype="bfloat16"))
    forward = jax.jit(functools.partial(model.forward, capture=("hidden_1", "noisy_latents")))
    got = jax.device_get(forward(params, batch, draws))
    assert got["hidden_1"].dtype == jnp.bfloat16
    for name in ("logits", "velocity", "velocity_target", "t", "noisy_latents"):
        assert got[name].dtype == np.float32, name
    np.testing.assert_array_equal(got["t"], outputs["t"])
    real = outputs["noisy"]
    error = np.abs(got["velocity"] - outputs["velocity"])[real].max() / np.abs(outputs["velocity"][real]).max()
    assert 1e-5 < error < 0.05
    fresh = jax.eval_shape(model.init, jax.random.key(0))
    assert {x.dtype for x in jax.tree.leaves(fresh)} == {jnp.dtype("float32")}


# -- Config ------------------------------------------------------------------------------------------------------------


def test_config_round_trips(tmp_path):
    config = tiny.config(position_init="random_codes", timestep_shift=2.0)
    assert BagelConfig.from_dict(config.to_dict()) == config
    config.save(tmp_path)
    assert BagelConfig.from_folder(tmp_path) == config
    assert BagelConfig.from_folder(tmp_path, dtype="bfloat16").dtype == "bfloat16"
    assert hash(config) == hash(BagelConfig.from_dict(config.to_dict()))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(nonsense=1), "model has no field nonsense"),
        (dict(llm=dict(hiden_size=3)), "model.llm has no field hiden_size"),
        (dict(remat="some"), "remat 'some' does not exist"),
        (dict(vit_max_num_patch_per_side=5), "one position indexes both tables"),
        (dict(vae=dict(ch=16)), "multiples of 32"),
        (dict(vae=dict(downsample=4)), "levels give 8"),
        (dict(connector_act="relu"), "connector_act 'relu' is not supported"),
    ],
)
def test_bad_configs_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny.config(**changes)
