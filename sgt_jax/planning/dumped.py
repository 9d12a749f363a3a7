"""Reads what the TPU compiler has decided about memory from its dump, before it writes machine code.

Code for every kernel takes nine tenths of a compilation and changes nothing of what a plan asks for: once buffers have
their places, memory, schedule and collectives are final.
"""

import re
from pathlib import Path

from sgt_jax.errors import PlanError

OPTIONS = {"xla_dump_hlo_as_text": True}  # beside xla_dump_to
_PROGRAM = "*.after_optimizations_after_buffer_assignment.txt"
_BUFFERS = "*.after_optimizations-buffer-assignment.txt"
_ALLOCATION = re.compile(r"^allocation \d+: size (\d+)(?P<facts>[^\n]*)", re.M)
_HOST = "color 5"


def ready(folder: str) -> tuple[str, str] | None:
    """(program, buffers) as text, as soon as the compiler has written both; None before."""
    program, buffers = next(Path(folder).glob(_PROGRAM), None), next(Path(folder).glob(_BUFFERS), None)
    if program is None or buffers is None:
        return None
    text = program.read_text()
    # A module ends with the brace of its entry computation; what ends elsewhere is still being written.
    return (text, buffers.read_text()) if text.rstrip().endswith("}") and "\nENTRY " in text else None


def memory(buffers: str) -> dict[str, int]:
    """Bytes per chip from a buffer assignment: arguments, outputs that take no argument's place, temporaries, constants.

    Raises:
      PlanError: not a text that this function knows.
    """
    sizes = dict.fromkeys(("arguments", "outputs", "temporaries", "program", "host"), 0)
    for found in _ALLOCATION.finditer(buffers):
        kind = _kind(found["facts"])
        if kind:
            sizes[kind] += int(found[1])
    if not sizes["arguments"]:
        raise PlanError("the compiler's buffer assignment does not look as expected; use --thorough")
    return sizes


def _kind(facts: str) -> str | None:
    """Where an allocation counts; None for what lies in no large memory or is shared."""
    if _HOST in facts:
        return "host"
    if re.search(r"color \d", facts) or "thread-local" in facts:
        return None
    if "parameter" in facts:
        return "arguments"
    if "maybe-live-out" in facts:
        return "outputs"
    if "constant" in facts:
        return "program"
    return "temporaries" if "preallocated-temp" in facts else None
