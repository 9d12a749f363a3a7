"""Plans the painting of a picture on one chip: memory, work and time, compiled for a TPU or counted for any chip."""

import dataclasses
import time
from typing import Any

from sgt_jax.errors import ConfigError
from sgt_jax.parallel import hardware, progress
from sgt_jax.planning.compiling import compile_elsewhere, require_compiler
from sgt_jax.planning.request import PROGRAMS, Request

GIB = hardware.GIB


def check_chips(topology: str, chip: hardware.Chip, chips: int) -> None:
    """Raises ConfigError: more than one chip, for which `sample` has no use."""
    if chips != 1:
        one = f"{chip.name}:1x1x1" if chip.name == "v5p" else f"{chip.name}:1x1" if chip.tpu else f"{chip.name}:1"
        raise ConfigError(f"topology '{topology}': a request is sampled on one chip; give {one}")


def plan_request(
    config_file: str, overrides: list[str], topology: str, chip: hardware.Chip, request: Request, *,
    compiled: bool, thorough: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Everything that the command knows of a request, as plain data; bytes, FLOPs and seconds.

    "guess" is the peak by the rule of thumb of `liveness.py`, "peak" that of the compiler where it was asked. Both are the
    peak of the program that needs most, and all parameters count in each.

    Raises:
      ConfigError: a task or size that the model does not paint.
      PlanError: libtpu is absent, or a program does not compile.
    """
    began = time.time()
    if compiled:
        require_compiler()
    result: dict[str, Any] = {
        "config": config_file, "overrides": overrides, "topology": topology, "chips": 1, "capacity": chip.memory,
        "request": dataclasses.asdict(request), "compiled": compiled, "thorough": thorough,
    }  # fmt: skip
    result |= counted(config_file, overrides, chip, request)
    over = 0.0
    if compiled:
        for name in PROGRAMS:
            progress.begin(f"compiling {name} for {topology}, in a process of its own")
            painted = {"program": name, "request": result["request"]}
            found = compile_elsewhere(config_file, overrides, topology, thorough, painted=painted)
            over = max(over, found.pop("over"))
            result["programs"][name]["compiled"] = found
    peaks = [_peak(facts, chip.memory) for facts in result["programs"].values()]
    result["peak"] = max(peaks) if not over else chip.memory + over
    result["over"] = max(result["peak"] - chip.memory, 0.0)
    result["fits"] = not result["over"]
    result["advice"] = advice(result)
    return result | {"seconds": time.time() - began}


def _peak(facts: dict[str, Any], capacity: float) -> float:
    found = facts.get("compiled")
    if found is None:
        return facts["guess"]
    return sum(found[k] for k in ("arguments", "outputs", "temporaries", "program")) if found["fits"] else capacity


def counted(config_file: str, overrides: list[str], chip: hardware.Chip, request: Request) -> dict[str, Any]:
    """What can be said without compiling: parameters and work exactly, memory beside them by the rule of thumb."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    from sgt_jax.planning import accounting, liveness
    from sgt_jax.planning.estimate import roofline
    from sgt_jax.planning.sampling import plan_sampling
    from sgt_jax.training.config_file import load

    planned = plan_sampling(load(config_file, overrides), request)
    parameters = _bytes(planned.params)
    programs = {}
    for name, (_, arguments) in planned.programs.items():
        traced = planned.jaxpr(name)
        work, beside = accounting.count(traced), liveness.temporaries(traced)
        line = roofline(chip, work.flops, work.flops, work.bytes, 0.0)
        programs[name] = {
            "flops": dict(work.flops), "moved": work.bytes, "beside": beside, "guess": _bytes(arguments) + beside,
            "roofline": {k: line[k] for k in ("compute", "memory", "overlapped", "serial")},
        }  # fmt: skip
    return {
        "parameters": parameters, "programs": programs, "size": planned.size, "steps": planned.steps,
        "branches": planned.branches, "slots": planned.slots, "guess": max(p["guess"] for p in programs.values()),
    }  # fmt: skip


def _bytes(tree: Any) -> int:
    import jax

    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def advice(result: dict[str, Any]) -> list[str]:
    """What to change if the request does not fit, the cheapest first."""
    if result["fits"]:
        return []
    out = []
    if result["request"]["pictures"] > 1:
        out.append("--num 1: one picture at a time")
    if result["request"]["dtype"] != "bfloat16":
        out.append("--dtype bfloat16: half of the parameters' memory")
    if result["parameters"] < result["capacity"]:
        out.append("a smaller --size")
    return [*out, "a chip with more memory"]


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    request, programs = result["request"], result["programs"]
    height, width = result["size"]
    count, branches = request["pictures"], result["branches"]
    lines = [
        f"{result['config']} on one chip of {result['topology']}: {request['task']}, {count} picture{'s'[: count > 1]} of "
        f"{width} x {height}, {result['steps']} steps, {branches} branch{'es'[: 2 * (branches > 1)]} of guidance, a prompt "
        f"of {request['tokens']} tokens, {request['dtype']}",
        "",
        "Memory, GiB",
        f"  parameters   {result['parameters'] / GIB:8.2f}   all of them, all the time",
    ]
    for name, facts in programs.items():
        found = facts.get("compiled")
        if found is None or not found["fits"]:
            lines.append(f"  {name:12} {facts['beside'] / GIB:8.2f}   at most beside them, by the rule of thumb")
        else:
            beside = sum(found[k] for k in ("outputs", "temporaries", "program"))
            lines.append(f"  {name:12} {beside / GIB:8.2f}   at most beside them; rule of thumb {facts['beside'] / GIB:.2f}")
    free = (result["capacity"] - result["peak"]) / GIB
    verdict = f"FITS, {free:.2f} free" if result["fits"] else f"DOES NOT FIT by {result['over'] / GIB:.2f} GiB"
    lines.append(f"  peak         {result['peak'] / GIB:8.2f}   of {result['capacity'] / GIB:.2f}: {verdict}")
    if result["compiled"] and result["fits"]:
        off = result["guess"] / result["peak"] - 1
        way = "much" if off > 0 else "little"
        lines.append(f"  the rule of thumb says {result['guess'] / GIB:.2f}: {abs(off):.1%} too {way}")
    lines += ["", "Work"]
    low = high = 0.0
    for name, facts in programs.items():
        line = facts["roofline"]
        low, high = low + line["overlapped"], high + line["serial"]
        flops = ", ".join(f"{kind} {n / 1e12:.1f}" for kind, n in sorted(facts["flops"].items()))
        lines.append(
            f"  {name:12} TFLOP {flops}; {facts['moved'] / GIB:.0f} GiB through memory: {line['overlapped']:.2f} to "
            f"{line['serial']:.2f} s"
        )
    lines += [
        f"Roofline: a request takes {low:.2f} s if products and memory overlap, {high:.2f} s if they do not",
        "  assumed: peak rates of the data sheet, every pair of blocks of attention visited, element-wise work fused",
    ]
    lines += [f"  advice: {text}" for text in result["advice"]]
    how = "compiled" if result["compiled"] else "not compiled: memory beside the parameters is a rule of thumb; done"
    return "\n".join([*lines, f"{how} in {result['seconds']:.0f} s"])
