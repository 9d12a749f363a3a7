"""Times a training step and its parts against what the device can do."""

import argparse
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

SIZES = {
    # Depth is cut: every layer costs the same. Autoencoder pictures are 4 strides of it.
    "7b": dict(llm={}, vit={}, vae={}),
    "nano": dict(
        llm=dict(
            hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=4,
            vocab_size=128,
        ),
        vit=dict(
            hidden_size=96, intermediate_size=288, num_hidden_layers=3, num_attention_heads=4, image_size=32, patch_size=8,
        ),
        vae=dict(ch=32, ch_mult=(1, 1, 1), num_res_blocks=1, z_channels=2),
        max_latent_size=4, vit_max_num_patch_per_side=4,
    ),
}  # fmt: skip


def measure(parts: dict[str, tuple[Callable, tuple]], repeats: int) -> list[dict[str, Any]]:
    """Times every part: compiled once, then interleaved rounds, so that a noisy machine disturbs all alike.

    Returns:
      Per part: name, seconds (median), FLOPs by our count and by XLA's, and the share of the peak if it is known.
    """
    import jax

    from sgt_jax.parallel import hardware
    from sgt_jax.planning import accounting

    compiled, rows = {}, []
    for name, (function, inputs) in parts.items():
        compiled[name] = jax.jit(function).lower(*inputs).compile()
        jax.block_until_ready(compiled[name](*inputs))
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(repeats):
        for name, (_, inputs) in parts.items():
            began = time.perf_counter()
            jax.block_until_ready(compiled[name](*inputs))
            seconds[name].append(time.perf_counter() - began)
    device = jax.devices()[0]
    chip = hardware.chip_of(device.device_kind)
    for name, (function, inputs) in parts.items():
        flops = accounting.count(jax.make_jaxpr(function)(*inputs)).total
        row = {"part": name, "seconds": statistics.median(seconds[name]), "flops": flops, "device": device.device_kind}
        row["xla_flops"] = float((compiled[name].cost_analysis() or {}).get("flops", float("nan")))
        row["of_peak"] = flops / row["seconds"] / chip.flops if chip else None
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]], relative: bool) -> str:
    """The rows for people; with `relative`, beside the first."""
    lines = [f"on {rows[0]['device']}", f"{'part':28} {'ms':>9} {'GFLOP':>9} {'GFLOP/s':>9}  {'XLA GFLOP':>9}  "]
    lines[1] += "time and XLA FLOPs beside the first" if relative else "of peak"
    for row in rows:
        last = "unknown" if row["of_peak"] is None else f"{row['of_peak']:.1%}"
        if relative:
            last = f"{row['seconds'] / rows[0]['seconds']:.2f}  {row['xla_flops'] / rows[0]['xla_flops']:.2f}"
        lines.append(
            f"{row['part']:28} {row['seconds'] * 1e3:9.2f} {row['flops'] / 1e9:9.2f} "
            f"{row['flops'] / row['seconds'] / 1e9:9.1f}  {row['xla_flops'] / 1e9:9.2f}  {last}"
        )
    return "\n".join(lines)


@dataclasses.dataclass
class Inputs:
    """A model of the asked-for size, and what its step takes: one row with the facts of a typical pack."""

    model: Any
    params: Any
    weights: Any
    opt_state: Any
    batch: Any
    draws: Any
    tx: Any
    info: Any
    lanes: dict[str, int]

    def step(self, model: Any) -> Callable:
        """The update with `model`, which takes the same parameters."""
        import jax
        import optax

        from sgt_jax.training.objectives import sgt

        settings = argparse.Namespace(ce_weight=1.0, mse_weight=1.0, ce_loss_reweighting=False)

        def loss(weights: Any, params: Any, batch: Any, draws: Any) -> jax.Array:
            return sgt.sgt_objective(model.forward(params | weights, batch, draws), batch, settings)[0]

        def step(weights: Any, opt_state: Any, params: Any, batch: Any, draws: Any) -> Any:
            gradients = jax.grad(loss)(weights, params, batch, draws)
            updates, opt_state = self.tx.update(gradients, opt_state, weights)
            return optax.apply_updates(weights, updates), opt_state

        return step

    @property
    def arguments(self) -> tuple:
        """What a step takes."""
        return self.weights, self.opt_state, self.params, self.batch, self.draws


def inputs(options: argparse.Namespace) -> Inputs:
    """Random numbers of the asked-for sizes."""
    import jax
    import optax

    from sgt_jax.models.bagel.config import BagelConfig
    from sgt_jax.models.bagel.model import Bagel
    from sgt_jax.models.family import by_name

    config = BagelConfig.from_dict(
        SIZES[options.size] | dict(scan_layers=True, attention=options.attention, dtype=options.dtype)
    )
    llm = config.llm.__class__(**(vars(config.llm) | {"num_hidden_layers": options.layers}))
    vit = config.vit.__class__(**(vars(config.vit) | {"num_hidden_layers": options.layers + 1}))
    model = Bagel(config.replace(llm=llm, vit=vit))
    lanes = {lane: getattr(options, lane) for lane in ("und", "gen", "vit", "labels")}
    row = by_name("bagel").costs(model.config).typical_row(lanes)
    info, pictures = row["decoder"], row["vit"]
    key = jax.random.key(0)
    params = model.init(key)
    batch = random_batch(key, model.config, lanes, info, pictures)
    tx = optax.adamw(1e-4)
    weights = {"decoder": params["decoder"], "vit": params["vit"]}
    draws = jax.jit(model.draw)(key, batch)
    return Inputs(model, params, weights, jax.jit(tx.init)(weights), batch, draws, tx, info, lanes)


def step_parts(options: argparse.Namespace) -> dict[str, tuple[Callable, tuple]]:
    """The step and its parts, each with gradients where training has them."""
    import jax
    import jax.numpy as jnp
    import optax

    from sgt_jax.batch import TokenInfo
    from sgt_jax.models import attention

    given = inputs(options)
    model, params, lanes, info, key = given.model, given.params, given.lanes, given.info, jax.random.key(1)
    config, llm = model.config, model.config.llm
    side = 4 * config.latent_stride
    pixels = jax.random.uniform(key, (1, side, side, 3), minval=-1.0)
    und_info, gen_info = (
        TokenInfo(*(x[:, part] for x in info)) for part in (slice(lanes["und"]), slice(lanes["und"], None))
    )
    x_und, x_gen = (
        jax.random.normal(key, (1, lanes[n], llm.hidden_size), config.compute_dtype) for n in ("und", "gen")
    )
    q, k, v = (
        jax.random.normal(key, (1, lanes["und"] + lanes["gen"], heads, llm.head_size), config.compute_dtype)
        for heads in (llm.num_attention_heads, llm.num_key_value_heads, llm.num_key_value_heads)
    )

    def total(tree: Any) -> jax.Array:
        return sum(jnp.sum(x.astype(jnp.float32)) for x in jax.tree.leaves(tree))

    def optimizer(weights: Any, opt_state: Any) -> Any:
        updates, opt_state = given.tx.update(weights, opt_state, weights)
        return optax.apply_updates(weights, updates), opt_state

    def head(decoder: Any, x: jax.Array) -> jax.Array:
        logits = model.logits({"decoder": decoder}, x)
        return jnp.sum(jax.nn.logsumexp(logits, axis=-1))

    attend = functools.partial(attention.packed_attention, backend=options.attention, block=config.attention_block)
    return {
        "step": (given.step(model), given.arguments),
        "ViT, connector": (jax.grad(lambda p, b: total(model.see(p, b)["tokens"])), (params, given.batch["vit"])),
        "autoencoder, one picture": (model.encode_moments, (params, pixels)),
        "decoder": (
            jax.grad(lambda p, *x: total(model.decode(p, *x)[:2])), (params, x_und, x_gen, und_info, gen_info),
        ),
        "attention, one layer": (jax.grad(lambda q, k, v, i: total(attend(q, k, v, i, i)), (0, 1, 2)), (q, k, v, info)),
        "head and cross-entropy": (jax.grad(head, (0, 1)), (params["decoder"], x_und[:, : lanes["labels"]])),
        "optimizer": (optimizer, (given.weights, given.opt_state)),
    }  # fmt: skip


def routed_steps(options: argparse.Namespace) -> dict[str, tuple[Callable, tuple]]:
    """The same step with slots sent to the experts in every way of `routing.FORMS`; all take the same arguments."""
    from sgt_jax.models.bagel.model import Bagel
    from sgt_jax.timing import routing

    given = inputs(options)
    steps = {}
    for name in routing.FORMS:
        model = Bagel(given.model.config)
        model.decoder = routing.decoder(given.model.config, name)
        steps[name] = (given.step(model), given.arguments)
    return steps


def config_parts(file: str) -> dict[str, tuple[Callable, tuple]]:
    """The whole step of a config of any family, and its loss alone, on the first batch of the config's own data."""
    import jax

    from sgt_jax.training import adapter, config_file, experiment, optimizer
    from sgt_jax.training import state as state_lib
    from sgt_jax.training import step as training_step

    config = config_file.load(file)
    built, tx = experiment.build(config), optimizer.make_optimizer(config)
    key = jax.random.key(config.seed)
    batches = iter(built.batches())
    batch = jax.device_put(next(batches)[0])  # beside it stands where its samples come from
    batches.close()
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params, _ = built.initial_params(key, jax.tree.map(lambda x: here, jax.eval_shape(built.init, key)))
    state = state_lib.create(params, tx, adapter.freeze(config), config.ema_decay > 0)
    step = training_step.make_step(built.loss, tx, config, built.adaptation)
    return {"step": (step, (state, batch)), "loss, forward only": (built.loss, (params, batch, key))}


def data_row(file: str, repeats: int) -> dict[str, Any]:
    """The row of making one batch of a config's data on the host, without anything made ahead."""
    from sgt_jax.training import config_file, experiment

    batches = iter(experiment.build(config_file.load(file)).batches())
    next(batches)  # fills the pools
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        next(batches)
        seconds.append(time.perf_counter() - began)
    batches.close()
    part = {"part": "data, one batch", "seconds": statistics.median(seconds), "flops": 0.0, "device": "host"}
    return part | {"xla_flops": 0.0, "of_peak": None}


def random_batch(key: Any, config: Any, lanes: dict[str, int], info: Any, pictures: Any) -> dict[str, dict[str, Any]]:
    """A batch of one row with the facts of a typical pack; targets are moments, as if tokenised before."""
    import jax
    import jax.numpy as jnp

    und, gen, vit, labels = (lanes[n] for n in ("und", "gen", "vit", "labels"))
    zeros = functools.partial(jnp.zeros, dtype=jnp.int32)

    def facts(part: slice) -> dict[str, Any]:
        return {name: jnp.asarray(x[:, part]) for name, x in info._asdict().items()}

    patch = config.vit.patch_size**2 * config.vit.num_channels
    return {
        "und": facts(slice(und)) | {"token": zeros((1, und)), "vit": jnp.arange(und)[None] % max(vit, 1)},
        "gen": facts(slice(und, None))
        | {"table": zeros((1, gen)), "noisy": zeros((1, gen)) + 1, "time": zeros((1, gen)), "token": zeros((1, gen))}
        | {"moments": jax.random.normal(key, (1, gen, 2 * config.latent_width))},
        "vit": {
            "patches": jax.random.randint(key, (1, vit, patch), 0, 256).astype(jnp.uint8),
            "table": zeros((1, vit)), "sample": jnp.asarray(pictures.sample), "image": jnp.asarray(pictures.split),
        },
        "labels": {
            "slot": jnp.arange(labels)[None] % und, "target": zeros((1, labels)), "sample": zeros((1, labels)) + 1,
            "weight": jnp.ones((1, labels)),
        },
    }  # fmt: skip
