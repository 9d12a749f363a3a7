"""Plans a training step for a TPU slice: memory, work and time, compiled or estimated."""

import argparse
import json
import sys
import time
from typing import Any

from sgt_jax.errors import PlanError
from sgt_jax.parallel import hardware, progress
from sgt_jax.planning.compiling import compile_elsewhere, require_compiler

WANTED, TRIED = 3, 8  # candidates that `--search` wants to fit, and compiles at most


GIB = hardware.GIB


def plan(
    config_file: str, overrides: list[str], topology: str, chip: hardware.Chip, chips: int, thorough: bool = False
) -> dict[str, Any]:
    """Everything that the command knows of a step on a slice, as plain data; bytes and FLOPs are per chip."""
    from sgt_jax.planning.estimate import roofline

    require_compiler()
    guess = analyse(config_file, overrides, chips)
    progress.begin(f"compiling for {topology}, in a process of its own")
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
    from sgt_jax.models import family as families
    from sgt_jax.parallel import partitioning
    from sgt_jax.planning import estimate
    from sgt_jax.planning.step import plan_step
    from sgt_jax.training import adapter
    from sgt_jax.training.config_file import load

    config = load(config_file, overrides)
    mesh = partitioning.make_mesh(config.mesh, chips)
    known = {} if known is None else known
    planned = plan_step(config, mesh, known.get("state"))
    known["state"] = planned.state
    state = estimate.state_bytes(planned)
    rows, lanes = config.data.rows, families.of_config(config).token_lanes
    if planned.model.remat not in known:
        known[planned.model.remat] = estimate.work_of(planned)
    executed, needed, shares = known[planned.model.remat]
    fixed = state["parameters"] + state["ema"] + state["optimizer"]
    return {
        "mesh": dict(mesh.shape),
        "rows": rows,
        "steps": config.total_steps,
        "checkpoint": sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(adapter.kept(planned.state, config))),
        "keep": config.checkpoint.keep,
        "accumulate": config.accumulate,
        "remat": planned.model.remat,
        "slots_per_chip": rows * sum(config.data.budgets[lane] for lane in lanes) // chips,
        "state": state,
        "masters": all(x.dtype == "float32" for x in jax.tree.leaves(planned.state.params)),
        "guess": fixed + state["gradients"] + estimate.activation_bytes(planned, rows / chips / config.accumulate),
        "sent": estimate.sent_bytes(planned, config.accumulate),
        "executed": {kind: n / chips for kind, n in executed.flops.items()},
        "moved": executed.bytes / chips + 2 * fixed,
        "needed": {part: n / chips for part, n in needed.items()},
        "attention_blocks": shares,
        "untrained": list(planned.costs.advice),
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
    out.extend(result["untrained"])
    out.append("mesh.context=2 or 4 with fewer rows, or smaller data.budgets: fewer slots per chip")
    out.append("a larger slice")
    return out


def search(options: argparse.Namespace, chip: hardware.Chip, chips: int) -> int:
    """Ranks what can be changed without changing the mathematics, compiles the best, prints the best first.

    Until three fit, and eight at most. The rule of thumb is off by about as much for all meshes of a remat policy, so what
    the compiler says of the first one decides which of the others are worth compiling.
    """
    from sgt_jax.planning.candidates import ranked

    require_compiler()
    known: dict[str, Any] = {}

    def analysed(changes: list[str]) -> dict[str, Any]:
        progress.begin("ranking candidates")
        return analyse(options.config, [*options.overrides, *changes], chips, known)

    found = ranked(analysed, chip, chips)
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


def whole_run(result: dict[str, Any]) -> list[str]:
    """Hours, chip-hours and disk of all steps of the config, in lines."""
    line, steps, keep = result["roofline"], result["steps"], result["keep"]
    low, high = (steps * line[name] / 3600 for name in ("overlapped", "serial"))
    gigabytes = result["checkpoint"] / 1e9
    return [
        f"All {steps:,} steps take {low:.1f} to {high:.1f} h, {low * result['chips']:.0f} to {high * result['chips']:.0f} "
        "chip-hours, without start, data, evaluation and saves",
        f"  a checkpoint takes {gigabytes:.1f} GB of disk, and {keep + 1} of them while the next is written "
        f"(checkpoint.keep={keep}): {(keep + 1) * gigabytes:.0f} GB",
    ]


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    state, line = result["state"], result["roofline"]
    sizes = " x ".join(f"{axis} {n}" for axis, n in result["mesh"].items() if n > 1) or "1"
    flops = ", ".join(f"{kind} {n / 1e12:.1f}" for kind, n in sorted(result["executed"].items()))
    visited = ", ".join(f"{share:.0%} ({name})" for name, share in result["attention_blocks"].items())
    held = "float32 masters" if result["masters"] else "frozen base, and adapters"
    lines = [
        f"{result['config']} on {result['topology']}: {result['chips']} chips, mesh {sizes}, {result['rows']} rows, "
        f"{result['slots_per_chip']} token slots per chip, remat {result['remat']}, accumulate {result['accumulate']}",
        "",
        "Memory per chip, GiB",
        f"  parameters   {state['parameters'] / GIB:8.2f}   {held}",
        f"  EMA          {state['ema'] / GIB:8.2f}",
        f"  optimizer    {state['optimizer'] / GIB:8.2f}",
    ]
    compiled = "collectives" in result
    untold = "" if result.get("thorough", True) else ", machine code not counted (about 0.1 GiB)"
    if "temporaries" in result:
        lines.append(f"  activations  {result['temporaries'] / GIB:8.2f}   with gradients and gathered weights")
        if result["host"]:
            lines.append(f"  on the host  {result['host'] / GIB:8.2f}")
    if result["fits"]:
        verdict = f"FITS, {(result['capacity'] - result['peak']) / GIB:.2f} free{untold}"
    else:
        verdict = f"DOES NOT FIT by {result['over'] / GIB:.2f} GiB"
    lines += [
        f"  peak         {result['peak'] / GIB:8.2f}   of {result['capacity'] / GIB:.2f}: {verdict}",
        "",
        f"Work per chip and step: TFLOP {flops}; {result['moved'] / GIB:.0f} GiB through memory",
        f"  the model needs {sum(result['needed'].values()) / 1e12:.1f} TFLOP",
        f"  of the blocks of a typical pack attention visits {visited}",
    ]
    if compiled:
        lines += ["", "Collectives per chip and step", "  kind                axes              count       GiB"]
        for c in result["collectives"]:
            lines.append(f"  {c['kind']:19} {c['axes']:17} {c['count']:5}  {c['bytes'] / GIB:8.2f}")
    if compiled or result["fits"]:
        lines += [
            "",
            f"Roofline: products {line['compute']:.2f} s, memory {line['memory']:.2f} s, interconnect "
            f"{line['interconnect']:.2f} s",
            f"  a step takes {line['overlapped']:.2f} s if they overlap (MFU {line['mfu_overlapped']:.0%}), "
            f"{line['serial']:.2f} s if they do not (MFU {line['mfu_serial']:.0%})",
            "  assumed: peak rates of the data sheet, a typical SGT pack, all links of the interconnect used alike,",
            "  element-wise work fused; MFU divides the model's own FLOPs, without recomputation, by the peak",
            *whole_run(result),
        ]
    lines += [f"  advice: {text}" for text in result["advice"]]
    how = "compiled" if compiled else "not compiled: activations and interconnect are rules of thumb; done"
    return "\n".join([*lines, f"{how} in {result['seconds']:.0f} s"])
