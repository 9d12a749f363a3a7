"""Counted work against the model's own formula, against XLA's count, and against sums done by hand. Nothing is computed."""

import jax
import jax.numpy as jnp
import pytest

from sgt_jax.batch import TokenInfo
from sgt_jax.models.attention import packed_attention
from sgt_jax.models.attention.work import attention_work
from sgt_jax.models.bagel import costs, decoder
from sgt_jax.models.bagel.costs import typical_row
from sgt_jax.parallel import partitioning
from sgt_jax.planning import accounting, estimate
from sgt_jax.planning.planning import analyse
from sgt_jax.planning.step import plan_step
from sgt_jax.training.config_file import load

CONFIG = "configs/bagel_7b_sgt.py"


def shape(*dims, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(dims, dtype)


def counted(function, *arguments, visited=None):
    return accounting.count(jax.make_jaxpr(function)(*arguments), visited)


def test_products_loops_and_branches():
    def body(x, w):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=5)[0]

    assert counted(body, shape(3, 7), shape(7, 7)).flops == {"matmul": 5 * 2 * 3 * 7 * 7}
    branch = lambda x: jax.lax.cond(x[0, 0] > 0, lambda: x @ x, lambda: x)  # noqa: E731
    assert counted(branch, shape(4, 4)).total == 2 * 4**3
    once = lambda x: jax.lax.while_loop(lambda x: x[0, 0] > 0, lambda x: x @ x, x)  # noqa: E731
    work = counted(once, shape(4, 4))
    assert work.total == 2 * 4**3 and work.unknown_loops == 1
    # Recomputation is work.
    loss = lambda x: jnp.sum(jax.checkpoint(lambda x: jnp.sin(x @ x) @ x)(x))  # noqa: E731
    assert counted(jax.grad(loss), shape(4, 4)).total == (2 + 4 + 1) * 2 * 4**3


def test_convolution_and_its_gradient():
    def conv(x, w):
        return jax.lax.conv_general_dilated(x, w, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"))

    x, w = shape(2, 8, 8, 3), shape(3, 3, 3, 5)
    forward = 2 * (2 * 4 * 4 * 5) * 9 * 3
    assert counted(conv, x, w).flops == {"convolution": forward}
    both = counted(jax.grad(lambda x, w: conv(x, w).sum(), argnums=(0, 1)), x, w).total
    assert both == pytest.approx(2 * forward, rel=0.5)  # borders: the gradient of x also computes what padding drops


@pytest.mark.parametrize("backend, block, backward", [
    ("tpu", 256, 7),  # three products for dq, four for dk and dv
    ("blockwise", 64, 5),  # all gradients in one loop
])  # fmt: skip
def test_attention_counts_the_blocks_it_visits(backend, block, backward):
    slots, heads, size = 1024, 6, 128
    info = TokenInfo(*(shape(1, slots, dtype=jnp.int32) for _ in range(5)))
    q, k = shape(1, slots, heads, size), shape(1, slots, 2, size)

    def attend(q, k, v, info):
        return packed_attention(q, k, v, info, info, backend=backend, block=block).sum()

    product = 2 * slots * slots * heads * size
    assert counted(attend, q, k, k, info).flops["attention"] == 2 * product
    assert counted(attend, q, k, k, info, visited={(slots // block) ** 2: 0.25}).flops["attention"] == 0.5 * product
    work = counted(jax.grad(attend, (0, 1, 2)), q, k, k, info)
    assert work.flops["attention"] == (2 + backward) * product and not work.unknown_loops


@pytest.fixture(scope="module")
def plain():
    """The 7B step without recomputation, attention as one product."""
    config = load(CONFIG, ["model.remat=none", "model.attention=xla"])
    return plan_step(config, partitioning.make_mesh({}, 1))


def test_the_7b_step_is_the_models_formula(plain):
    work = accounting.count(plain.jaxpr())
    slots = {lane: fields["sample"].size for lane, fields in plain.batch.items()}
    rows = plain.batch["und"]["sample"].shape[0]
    pairs = {"decoder": rows * 16384**2, "vit": slots["vit"] ** 2 / rows}
    needed = sum(costs.training_flops(plain.model, slots, pairs, plain.freeze).values())
    # A hair below 1: inputs have no gradient.
    assert 0.999 <= work.total / needed <= 1.05 and not work.unknown_loops


def test_formula_agrees_with_the_recorded_one(plain):
    """The reference charges the head and the embedding table for every token; see tests/golden/bagel/flops.json."""
    found = costs.training_flops(plain.model, {"und": 1, "gen": 0, "vit": 0, "labels": 1}, {"decoder": 1, "vit": 0})
    table = 3 * 2 * plain.model.llm.vocab_size * plain.model.llm.hidden_size
    assert found["und"] + found["head"] + table == pytest.approx(45691699200.0)
    assert found["attention"] == 1204224.0


def test_frozen_parts_cost_less(plain):
    args = plain.model, {"und": 1, "gen": 1, "vit": 1, "labels": 1}, {"decoder": 0, "vit": 0}
    free, held = costs.training_flops(*args), costs.training_flops(*args, freeze=("^vit/", "und/"))
    assert held["vit"] == free["vit"] / 3 and held["und"] == free["und"] * 2 / 3 and held["gen"] == free["gen"]


def test_xla_counts_no_expert_twice(plain, monkeypatch):
    """XLA's own count of one layer more, attention left out, 2k slots, all unrolled: forward and backward."""
    und, gen = 1024, 1024

    def without(q, k, v, cached, *_):
        return q + (jnp.sum(k) + jnp.sum(v)), cached

    monkeypatch.setattr(decoder, "attend_after", without)

    def flops(layers):
        llm = plain.model.llm.__class__(**(vars(plain.model.llm) | {"num_hidden_layers": layers}))
        model = decoder.Decoder(plain.model.replace(llm=llm, scan_layers=False, remat="none"))
        x = [shape(1, n, llm.hidden_size, dtype=jnp.bfloat16) for n in (und, gen)]
        info = [TokenInfo(*(shape(1, n, dtype=jnp.int32) for _ in range(5))) for n in (und, gen)]
        params = jax.eval_shape(lambda *a: model.init(jax.random.key(0), *a, method="touch"), *x, *info)

        def loss(params, *a):
            h_und, h_gen, _ = model.apply(params, *a)
            return h_und.astype(jnp.float32).sum() + h_gen.astype(jnp.float32).sum()

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(params, *x, *info).cost_analysis()["flops"]

    slots = {"und": und, "gen": gen, "vit": 0, "labels": 0}
    needed = costs.training_flops(plain.model, slots, {"decoder": 0, "vit": 0})
    layer = (needed["und"] + needed["gen"]) / plain.model.llm.num_hidden_layers
    assert 1.0 <= (flops(2) - flops(1)) / layer <= 1.10


@pytest.mark.slow  # 15 s
def test_a_typical_pack_is_full_and_sparse():
    decoder_info, vit_info = typical_row({"und": 5376, "gen": 11008, "vit": 5120})
    assert (decoder_info.sample[0, 5376:] > 0).all() and (decoder_info.sample[0] > 0).mean() > 0.9
    pairs, blocks, share = attention_work(decoder_info, 512)
    assert blocks == 32 * 32 and pairs / 16384**2 < share < 0.3
    # A padded lane and a pack of nothing.
    assert attention_work(typical_row({"und": 128, "gen": 0, "vit": 128})[0], 512)[0] == 0
    assert vit_info.sample.shape == (1, 5120)


def test_state_per_chip():
    config = load(CONFIG, ["data.rows=64"])
    planned = plan_step(config, partitioning.make_mesh(config.mesh, 64))
    state = estimate.state_bytes(planned)
    # 14.69 G parameters of which all but the autoencoder and the position tables are trained; 4 bytes each, and Adam's two.
    assert state["ema"] == pytest.approx(14.57e9 * 4 / 64, rel=0.05)
    assert state["optimizer"] == pytest.approx(2 * state["ema"], rel=1e-3)
    assert state["parameters"] < 1.55 * state["ema"]


@pytest.mark.slow  # it traces a step of the real size
def test_attention_is_counted_where_an_expert_is_frozen():
    found = analyse("configs/bagel_7b_sgt.py:1xh200_gen", [], 1)["executed"]
    assert 0.05 * found["matmul"] < found["attention"] < found["matmul"]


def test_of_what_is_sliced_the_slice_alone_is_moved():
    def blocks(x, y):
        return jax.lax.fori_loop(
            0, 4, lambda i, y: jax.lax.dynamic_update_slice(y, jax.lax.dynamic_slice(x, (i * 8,), (8,)), (i * 8,)), y
        )

    work = accounting.count(jax.make_jaxpr(blocks)(jnp.zeros(32), jnp.zeros(32)))
    assert work.bytes == 4 * 4 * 8 * 4  # four times a read and a write, each of the slice and of its place
