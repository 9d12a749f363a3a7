"""One side of `versus`: a process that runs one thing on command, in whatever version of sgt_jax it finds.

`versus` starts this file twice, each time with a checkout's own interpreter and path, so nothing of sgt_jax is imported but
by the table below, which says where each version keeps a name. It reads lines from its input, does the thing once for each,
and answers with a line of JSON: seconds of processor time and of the clock, and numbers that show what was computed.
"""

import importlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# What a worker uses -> where this version has it, and where d58c5c3 has it.
PLACES: dict[str, tuple[str, str]] = {
    "build": ("sgt_jax.training.experiment:build", "sgt_jax.experiment:build"),
    "config_from_folder": ("sgt_jax.models.bagel.published:config_from_folder",) * 2,
    "create": ("sgt_jax.training.state:create", "sgt_jax.state:create"),
    "Guidance": ("sgt_jax.models.bagel.guidance:Guidance", "sgt_jax.models.bagel.sampling:Guidance"),
    "load": ("sgt_jax.inference.load:load", "sgt_jax.inference:load"),
    "load_config": ("sgt_jax.training.config_file:load", "sgt_jax.planning.step:load_config"),
    "load_published": ("sgt_jax.models.bagel.published:load_published",) * 2,
    "make_optimizer": ("sgt_jax.training.optimizer:make_optimizer", "sgt_jax.optimizer:make_optimizer"),
    "make_step": ("sgt_jax.training.step:make_step", "sgt_jax.train:make_step"),
    "model": ("sgt_jax.models.bagel.model:Bagel",) * 2,
    "objective": ("sgt_jax.training.objectives.sgt:sgt_objective", "sgt_jax.objective:sgt_objective"),
    "packed_attention": ("sgt_jax.models.attention:packed_attention", "sgt_jax.attention:packed_attention"),
    "partitioning": ("sgt_jax.parallel.partitioning", "sgt_jax.partitioning"),
    "prepare_platform": ("sgt_jax.parallel.distributed:prepare_platform", "sgt_jax.distributed:prepare_platform"),
    "Settings": ("sgt_jax.models.bagel.guidance:Settings", "sgt_jax.assistant:Settings"),
    "to_lanes": ("sgt_jax.parity.bagel.pack:to_lanes", "sgt_jax.commands.reference_pack:to_lanes"),
    "TokenInfo": ("sgt_jax.batch:TokenInfo",) * 2,
}
MATRICES = ("decoder", "vit")  # whose layers hold Muon's share of the weights


class Thing(NamedTuple):
    """What is timed: `call` does it and waits, `facts` makes numbers of what it returned."""

    call: Callable[[], Any]
    facts: Callable[[Any], dict[str, float]]


def find(name: str) -> Any:
    """A name of the table, from where this version keeps it.

    Only files of the checkout count: an interpreter in which another version is installed would find that one's modules, too.
    """
    checkout = Path(importlib.import_module("sgt_jax").__file__).parents[1]
    for place in PLACES[name]:
        module, _, attribute = place.partition(":")
        path = checkout.joinpath(*module.split("."))
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            found = importlib.import_module(module)
            if not attribute or hasattr(found, attribute):
                return getattr(found, attribute) if attribute else found
    raise ModuleNotFoundError(f"this version has {name} at none of {', '.join(PLACES[name])}")


# -- Training steps ----------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """A step that is not compiled yet: a jitted function and what it takes."""

    jitted: Any
    state: Any
    batch: Any


def step_of_config(options: dict[str, Any]) -> Step:
    """The step that training of a config takes, on its own mesh, with the second batch of its data."""
    import jax

    config = find("load_config")(options["of"], options["changes"])
    devices = options["devices"] or config.cpu_devices or 1
    find("prepare_platform")("cpu", devices)
    partitioning = find("partitioning")
    mesh = partitioning.make_mesh(config.mesh)
    jax.set_mesh(mesh)
    task, tx = find("build")(config), find("make_optimizer")(config)

    def create(params: Any) -> Any:
        return find("create")(params, tx, tuple(config.freeze), config.ema_decay > 0)

    key = jax.random.key(config.seed)
    shardings = partitioning.tree_shardings(jax.eval_shape(lambda key: create(task.init(key)), key), mesh)
    params, _ = task.initial_params(key, shardings.params)
    state = jax.jit(create, out_shardings=shardings, donate_argnums=0)(params)
    batches = iter(task.batches(partitioning.own_rows(config.data.rows, mesh)))
    next(batches)
    batch = partitioning.to_devices(next(batches)[0], mesh)
    batches.close()
    out = (shardings, jax.NamedSharding(mesh, jax.P()))
    return Step(jax.jit(find("make_step")(task.loss, tx, config), donate_argnums=0, out_shardings=out), state, batch)


def step_of_pack(options: dict[str, Any]) -> Step:
    """An AdamW step of the model in a published folder, on one recorded pack, with the times and noises recorded with it."""
    import jax
    from ml_collections import ConfigDict

    find("prepare_platform")("cpu", options["devices"] or 1)
    attention = dict(attention=options["attention"], attention_block=options["block"])
    config = find("config_from_folder")(options["model"], remat=options["remat"], scan_layers=False, **attention)
    model, objective = find("model")(config), find("objective")
    pack = find("to_lanes")(whole_pack(options["of"]), config)
    settings = ConfigDict(dict(
        seed=0, total_steps=1000, accumulate=1, freeze=("^vae/", "pos_embed"), ema_decay=0.9999,
        optimizer=dict(name="adamw", learning_rate=1e-4, b1=0.9, b2=0.95, eps=1e-15, weight_decay=0.0, clip=1.0),
        schedule=dict(name="constant", warmup_steps=0),
        objective=dict(ce_weight=1.5, mse_weight=1.0, ce_loss_reweighting=False),
    ))  # fmt: skip
    partitioning, tx = find("partitioning"), find("make_optimizer")(settings)
    mesh = partitioning.make_mesh(dict(data=-1))
    jax.set_mesh(mesh)

    def loss(params: Any, batch: Any, key: jax.Array) -> Any:
        del key  # everything random is part of the pack
        outputs = model.forward(params, {k: v for k, v in batch.items() if k != "draws"}, batch["draws"])
        return objective(outputs, batch, settings.objective)

    params = find("load_published")(options["model"], config, dtype="float32", tables="recompute").params
    state = jax.jit(lambda params: find("create")(params, tx, tuple(settings.freeze), True), donate_argnums=0)(params)
    batch = partitioning.to_devices({**pack.batch, "draws": pack.draws}, mesh)
    return Step(jax.jit(find("make_step")(loss, tx, settings), donate_argnums=0), state, batch)


def whole_pack(file: str) -> dict[str, np.ndarray]:
    """The arrays of a pack; of what is only random a small file has the shape, "drawn/NAME", and it is drawn here."""
    arrays, rng = dict(np.load(file)), np.random.default_rng(0)
    for key in [key for key in arrays if key.startswith("drawn/")]:
        name, shape = key.removeprefix("drawn/"), tuple(arrays.pop(key))
        pixels = name in ("padded_images", "packed_vit_tokens")
        arrays[name] = (rng.uniform(-1, 1, shape) if pixels else rng.standard_normal(shape)).astype(np.float32)
    return arrays


def step_of(options: dict[str, Any]) -> Step:
    """Of a config or of a pack, by the name of the file."""
    return step_of_pack(options) if options["of"].endswith(".npz") else step_of_config(options)


def step(options: dict[str, Any]) -> Thing:
    """Whole training steps, one after the other."""
    import jax

    given = step_of(options)
    compiled, held = given.jitted.lower(given.state, given.batch).compile(), [given.state]

    def call() -> Any:
        held[0], metrics = compiled(held[0], given.batch)
        jax.block_until_ready(held[0])
        return metrics

    return Thing(call, lambda metrics: {name: float(metrics[name]) for name in ("loss", "grad_norm")})


def compiling(options: dict[str, Any]) -> Thing:
    """Tracing, lowering and compiling a step, with nothing kept from the time before."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    given = step_of(options)
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX asks for the setting once: a cache in use would stay in use

    def call() -> Any:
        jax.clear_caches()
        lowered = given.jitted.lower(given.state, given.batch)
        lowered.compile()
        return lowered

    return Thing(call, lambda lowered: {"operations": float(lowered.as_text().count(" = "))})


def norm(tree: Any) -> float:
    """Of all numbers in a tree, in float64."""
    import jax

    return float(np.sqrt(sum(np.sum(np.square(np.asarray(x, np.float64))) for x in jax.tree.leaves(tree))))


def peak() -> float:
    """The most memory that this process has held, in MB. On Linux getrusage counts what the process held that started it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# -- Parts -------------------------------------------------------------------------------------------------------------


def muon(options: dict[str, Any]) -> Thing:
    """The optimizer's update of all matrices in the layers of a config's model, with random gradients."""
    import jax

    config = find("load_config")(options["of"], options["changes"])
    find("prepare_platform")("cpu", options["devices"] or config.cpu_devices or 1)
    mesh = find("partitioning").make_mesh(config.mesh)
    jax.set_mesh(mesh)
    task, tx, rng = find("build")(config), find("make_optimizer")(config), np.random.default_rng(0)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    params: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path({part: shapes[part] for part in MATRICES}):
        names = [entry.key for entry in path]
        if names[-1] == "kernel" and any(name.startswith("layers") for name in names):
            at = params
            for name in names[:-1]:
                at = at.setdefault(name, {})
            at["kernel"] = rng.standard_normal(leaf.shape, np.float32)
    everywhere = jax.NamedSharding(mesh, jax.P())
    params = jax.device_put(params, everywhere)
    opt_state = jax.jit(tx.init, out_shardings=everywhere)(params)
    compiled = jax.jit(tx.update, out_shardings=everywhere).lower(params, opt_state, params).compile()
    opt_state = compiled(params, opt_state, params)[1]  # the first step of a warm-up has rate 0 and changes nothing

    def facts(found: Any) -> dict[str, float]:
        return {"matrices": float(len(jax.tree.leaves(found[0]))), "norm": norm(found[0])}

    return Thing(lambda: jax.block_until_ready(compiled(params, opt_state, params)), facts)


def attention(options: dict[str, Any]) -> Thing:
    """One layer's attention of one row, forward and backward."""
    import jax
    import jax.numpy as jnp

    find("prepare_platform")("cpu", 1)
    packed_attention, rng = find("packed_attention"), np.random.default_rng(0)
    with np.load(options["of"]) as facts_of_slots:
        info = find("TokenInfo")(**{name: jnp.asarray(x) for name, x in facts_of_slots.items()})
    sizes = [
        (1, info.sample.shape[1], heads, options["head_size"])
        for heads in (options["heads"], *[options["kv_heads"]] * 2)
    ]
    inputs = [jnp.asarray(rng.standard_normal(size), jnp.float32) for size in sizes]
    how = dict(backend=options["attention"], block=options["block"], precision="highest")

    def loss(q: jax.Array, k: jax.Array, v: jax.Array, info: Any) -> jax.Array:
        return jnp.sum(jnp.sin(packed_attention(q, k, v, info, info, **how)))

    compiled = jax.jit(jax.grad(loss, (0, 1, 2))).lower(*inputs, info).compile()

    return Thing(lambda: jax.block_until_ready(compiled(*inputs, info)), lambda found: {"norm": norm(found)})


def load(options: dict[str, Any]) -> Thing:
    """A published folder into float32 parameters, as training takes it."""
    import jax

    find("prepare_platform")("cpu", 1)
    config, load_published = find("config_from_folder")(options["of"]), find("load_published")

    def facts(params: Any) -> dict[str, float]:
        total = sum(
            float(np.abs(np.asarray(x).reshape(-1)[::1009].astype(np.float64)).sum()) for x in jax.tree.leaves(params)
        )
        return {"sum": total, "peak MB": peak()}

    def call() -> Any:
        found = load_published(options["of"], config, dtype="float32", tables="recompute")
        return jax.block_until_ready(found.params)

    return Thing(call, facts)


def sample(options: dict[str, Any]) -> Thing:
    """A picture from text, or an edit of a picture, with guidance."""
    find("prepare_platform")("cpu", 1)
    assistant = find("load")(options["of"])
    side, edits = options["side"], options["request"] == "edit"
    guidance = (4.0, 2.0, 0.0, 1.0, "text_channel") if edits else (4.0, 1.0, 0.4, 1.0, "global")
    settings = find("Settings")(options["steps"], 3.0, find("Guidance")(*guidance), (min(side, 112),) * 2)
    photo = np.kron(
        np.random.default_rng(5).integers(0, 255, (8, 8, 3), np.uint8), np.ones((side // 8, side // 8, 1), np.uint8)
    )
    if edits:
        ask = lambda: assistant.edit([photo, "make it darker"], shape=(side, side), settings=settings)  # noqa: E731
    else:
        ask = lambda: assistant.draw(["a red circle"], shape=(side, side), settings=settings)  # noqa: E731
    return Thing(
        ask, lambda painted: {"mean": float(painted[0].picture.mean()), "spread": float(painted[0].picture.std())}
    )


def run(options: dict[str, Any]) -> Thing:
    """A whole run of a config by its command, in a process and a work directory of its own, with nothing compiled before."""

    def call() -> Path:
        folder = Path(tempfile.mkdtemp())
        command = [sys.executable, "-m", "sgt_jax.main", f"--config={options['of']}", f"--workdir={folder / 'run'}"]
        cut = [f"--config.total_steps={options['steps']}"] if options["steps"] else []
        chosen = ("JAX_COMPILATION_CACHE_DIR", "SGT_COMPILATION_CACHE")
        kept = {name: value for name, value in os.environ.items() if name not in chosen}
        done = subprocess.run([*command, *cut], env=kept | {"XDG_CACHE_HOME": str(folder / "cache")})
        if done.returncode:
            raise RuntimeError(f"the run ended with status {done.returncode}")
        return folder

    def facts(folder: Path) -> dict[str, float]:
        lines = map(json.loads, (folder / "run" / "metrics.jsonl").read_text().splitlines())
        losses = [line["loss"] for line in lines if "loss" in line]
        shutil.rmtree(folder)
        return {"first loss": losses[0], "last loss": losses[-1]}

    return Thing(call, facts)


THINGS: dict[str, Callable[[dict[str, Any]], Thing]] = {
    "step": step, "compile": compiling, "muon": muon, "attention": attention, "load": load, "sample": sample,
    "run": run,
}  # fmt: skip


# -- The process -------------------------------------------------------------------------------------------------------


def processor_time() -> float:
    """Seconds of all threads, and of processes that were started and have ended."""
    spent = os.times()
    return time.process_time() + spent.children_user + spent.children_system


def main(text: str) -> None:
    """Makes the thing that the options name (JSON), and then does it --times times for every line of the input."""
    options = json.loads(text)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print is no answer
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options["cores"]])
    package = Path(importlib.import_module("sgt_jax").__file__).resolve()
    if not package.is_relative_to(Path(options["checkout"]).resolve()):
        raise ImportError(
            f"the interpreter {sys.executable} takes sgt_jax from {package} and not from {options['checkout']}"
        )
    thing = THINGS[options["what"]](options)
    print(json.dumps({}), file=answers, flush=True)
    for _ in sys.stdin:
        cpu, wall = processor_time(), time.perf_counter()
        for _ in range(options["times"]):
            found = None  # before the next one is made
            found = thing.call()
        spent = {"cpu": processor_time() - cpu, "wall": time.perf_counter() - wall}
        times = {name: seconds / options["times"] for name, seconds in spent.items()}
        print(json.dumps(times | {"facts": thing.facts(found)}), file=answers, flush=True)
        del found  # before the next one is made


def begin() -> None:
    """Begins as the commands of this version do: some start once more, with other settings of the C library."""
    try:
        module = importlib.import_module("sgt_jax.parallel.host_memory")
    except ModuleNotFoundError:  # an earlier version
        return
    module.begin_with_huge_pages()


if __name__ == "__main__":
    begin()
    main(sys.argv[1])
