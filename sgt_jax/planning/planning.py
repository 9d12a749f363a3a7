"""Plans a training step for a TPU slice: memory, work and time, compiled or estimated."""

import argparse
import json
import sys
import time
from typing import Any

from sgt_jax.commands.plan import TRIED, WANTED, table
from sgt_jax.errors import PlanError
from sgt_jax.parallel import hardware
from sgt_jax.planning.compiling import compile_elsewhere

GIB = hardware.GIB


def plan(
    config_file: str, overrides: list[str], topology: str, chip: hardware.Chip, chips: int, thorough: bool = False
) -> dict[str, Any]:
    """Everything that the command knows of a step on a slice, as plain data; bytes and FLOPs are per chip."""
    from sgt_jax.planning.estimate import roofline

    guess = analyse(config_file, overrides, chips)
    found = compile_elsewhere(config_file, overrides, topology, thorough)
    result = {"config": config_file, "overrides": overrides, "topology": topology, "chips": chips} | guess | found
    result["capacity"] = chip.memory
    if result["fits"]:
        # Outputs take the place of the donated state; what cannot is on top.
        result["peak"] = sum(found[k] for k in ("arguments", "outputs", "temporaries", "program"))
        sent = sum(c["bytes"] for c in found["collectives"])
    else:
        result["peak"], sent = chip.memory + found["over"], 0.0
    result["roofline"] = roofline(chip, result["executed"], result["needed"], result["moved"], sent)
    result["advice"] = advice(result)
    return result


def estimated(config_file: str, overrides: list[str], topology: str, chip: hardware.Chip, chips: int) -> dict[str, Any]:
    """What `plan` says, without compiling: state and work are exact, activations and what is sent are a guess."""
    from sgt_jax.planning.estimate import roofline

    began = time.time()
    result = {
        "config": config_file,
        "overrides": overrides,
        "topology": topology,
        "chips": chips,
        "capacity": chip.memory,
    }
    result |= analyse(config_file, overrides, chips)
    over = max(result["guess"] - chip.memory, 0.0)
    line = roofline(chip, result["executed"], result["needed"], result["moved"], sum(result["sent"].values()))
    result |= {"fits": not over, "over": over, "peak": result["guess"], "roofline": line}
    return result | {"advice": advice(result), "seconds": time.time() - began}


def analyse(config_file: str, overrides: list[str], chips: int, known: dict[str, Any] | None = None) -> dict[str, Any]:
    """What can be said without compiling: state by the table of shardings, work by the jaxpr.

    `known` remembers the state's shapes, and work by remat policy: no mesh and no micro-batch changes either.
    """
    import jax

    jax.config.update("jax_platforms", "cpu")
    from sgt_jax.parallel import partitioning
    from sgt_jax.planning import estimate
    from sgt_jax.planning.step import load_config, plan_step

    config = load_config(config_file, overrides)
    mesh = partitioning.make_mesh(config.mesh, chips)
    known = {} if known is None else known
    planned = plan_step(config, mesh, known.get("state"))
    known["state"] = planned.state
    state = estimate.state_bytes(planned)
    rows = config.data.rows
    if planned.model.remat not in known:
        known[planned.model.remat] = estimate.work_of(planned)
    executed, needed, shares = known[planned.model.remat]
    fixed = state["parameters"] + state["ema"] + state["optimizer"]
    return {
        "mesh": dict(mesh.shape),
        "rows": rows,
        "accumulate": config.accumulate,
        "remat": planned.model.remat,
        "slots_per_chip": rows * (config.data.budgets["und"] + config.data.budgets["gen"]) // chips,
        "state": state,
        "guess": fixed + state["gradients"] + estimate.activation_bytes(planned, rows / chips / config.accumulate),
        "sent": estimate.sent_bytes(planned, config.accumulate),
        "executed": {kind: n / chips for kind, n in executed.flops.items()},
        "moved": executed.bytes / chips + 2 * fixed,
        "needed": {part: n / chips for part, n in needed.items()},
        "attention_blocks": shares,
    }


def advice(result: dict[str, Any]) -> list[str]:
    """What to change if the step does not fit, the cheapest first."""
    if result["fits"]:
        return []
    mesh, out = result["mesh"], []
    if mesh["data"] > 1:
        out.append(f"mesh.fsdp={mesh['data'] * mesh['fsdp']} mesh.data=1: the state is spread over all chips")
    if result["remat"] not in ("full", "full_offload"):
        out.append("model.remat=full: keeps the inputs of layers only")
    if result["rows"] > result["chips"] * result["accumulate"]:
        out.append(f"accumulate={result['rows'] // result['chips']}: one row per chip at a time")
    if result["remat"] == "full":
        out.append("model.remat=full_offload: the inputs of layers wait in the host's memory")
    out.append("ema_decay=0: no moving average (4 bytes per trained parameter)")
    out.append('freeze=("^vae/", "pos_embed", "^decoder/.*und/"): train the generation expert alone')
    out.append("mesh.context=2 or 4 with fewer rows, or smaller data.budgets: fewer slots per chip")
    out.append("a larger slice")
    return out


def search(options: argparse.Namespace, chip: hardware.Chip, chips: int) -> int:
    """Ranks what can be changed without changing the mathematics, compiles the best, prints the best first.

    Until three fit, and eight at most. The rule of thumb is off by about as much for all meshes of a remat policy, so what
    the compiler says of the first one decides which of the others are worth compiling.
    """
    from sgt_jax.planning.candidates import ranked

    known: dict[str, Any] = {}
    found = ranked(lambda changes: analyse(options.config, [*options.overrides, *changes], chips, known), chip, chips)
    results: list[dict[str, Any]] = []
    short: dict[str, float] = {}  # remat policy -> bytes by which its rule of thumb was seen to be too low
    tried = 0
    for changes, remat, guess in found:
        if tried == TRIED or sum(result["fits"] for result in results) == WANTED:
            break
        if tried and guess + short.get(remat, 0.0) > chip.memory:
            continue
        tried += 1
        try:
            made = plan(options.config, [*options.overrides, *changes], options.topology, chip, chips, options.thorough)
        except PlanError as error:
            print(f"error: {' '.join(changes)}: {error}", file=sys.stderr)
            continue
        results.append(made)
        short[remat] = max(short.get(remat, 0.0), made["peak"] - guess)
    results.sort(key=lambda r: (not r["fits"], r["roofline"]["overlapped"], r["roofline"]["serial"]))
    if options.json:
        print(json.dumps(results, indent=1))
    else:
        print(f"{len(found)} candidates ranked, {len(results)} compiled, the best first\n")
        for result in results:
            print(f"{' '.join(result['overrides'])}\n{table(result)}\n")
    return 0 if results and results[0]["fits"] else 1
