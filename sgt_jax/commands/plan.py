"""What a training step takes on a TPU slice, before renting it: memory, work, collectives and time per chip.

    python -m sgt_jax plan --config configs/bagel_7b_sgt.py:v5p_2x2x4 --topology v5p:2x2x4 [FIELD=VALUE ...]

Compiles the real step ahead of time with libtpu (pip install 'sgt_jax[plan]'); no TPU is needed. Exit status: 0 it fits,
1 it does not, 2 it cannot be planned.
"""

import argparse
import functools
import json
import sys
from typing import Any

from sgt_jax.parallel import hardware
from sgt_jax.planning.planning import GIB, estimated, plan, search

WANTED, TRIED = 3, 8  # candidates that `--search` wants to fit, and compiles at most


def main(arguments: list[str]) -> int:
    """Takes the arguments after the command's name."""
    parser = argparse.ArgumentParser(
        prog="python -m sgt_jax plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="FILE.py or FILE.py:variant")
    parser.add_argument("--topology", required=True, help="such as v5e:8x8, v5p:2x2x4, v6e:4x4")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="do not compile: state and work as they are, activations by a rule of thumb",
    )
    parser.add_argument(
        "--thorough", action="store_true", help="compile to the end: machine code is counted and every kernel tried"
    )
    parser.add_argument(
        "--search", action="store_true", help="rank meshes, remat policies, micro-batches; compile until three fit"
    )
    parser.add_argument("overrides", nargs="*", metavar="FIELD=VALUE", help="of the config, such as model.remat=dots")
    options = parser.parse_args(arguments)
    try:
        chip, sides = hardware.parse_topology(options.topology)
        chips = hardware.chips_in(sides)
        if options.search:
            return search(options, chip, chips)
        make = estimated if options.estimate else functools.partial(plan, thorough=options.thorough)
        result = make(options.config, options.overrides, options.topology, chip, chips)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result, indent=1) if options.json else table(result))
    return 0 if result["fits"] else 1


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    state, line = result["state"], result["roofline"]
    sizes = " x ".join(f"{axis} {n}" for axis, n in result["mesh"].items() if n > 1) or "1"
    flops = ", ".join(f"{kind} {n / 1e12:.1f}" for kind, n in sorted(result["executed"].items()))
    lines = [
        f"{result['config']} on {result['topology']}: {result['chips']} chips, mesh {sizes}, {result['rows']} rows, "
        f"{result['slots_per_chip']} decoder slots per chip, remat {result['remat']}, accumulate {result['accumulate']}",
        "",
        "Memory per chip, GiB",
        f"  parameters   {state['parameters'] / GIB:8.2f}   float32 masters",
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
        f"  the model needs {sum(result['needed'].values()) / 1e12:.1f} TFLOP; attention visits "
        f"{result['attention_blocks']['decoder']:.0%} of the decoder's and {result['attention_blocks']['vit']:.0%} of the "
        "ViT's blocks of a typical pack",
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
        ]
    lines += [f"  advice: {text}" for text in result["advice"]]
    how = "compiled" if compiled else "not compiled: activations and interconnect are rules of thumb; done"
    return "\n".join([*lines, f"{how} in {result['seconds']:.0f} s"])
