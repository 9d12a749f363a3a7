"""Reads a compiled program's text: which collectives run, how often, over which mesh axes, and how many bytes they move."""

import collections
import dataclasses
import math
import re
from collections.abc import Mapping

import numpy as np

_KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s64": 8, "u64": 8, "f64": 8}  # or 4
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?[\w.\-]+ = (?P<type>\(.*?\)|\S+) (?P<op>[\w\-]+)\((?P<rest>.*)$")
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{\s*$")
_CALLED = re.compile(r"(?:calls|body|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_KNOWN = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of one kind over the same mesh axes.

    Attributes:
      kind: "all-gather", ...
      axes: mesh axes that the groups span, such as "fsdp" or "data+fsdp".
      count: how many run in a step.
      bytes: what one chip sends (and receives) in a step.
    """

    kind: str
    axes: str
    count: int
    bytes: float


def read(text: str, mesh_shape: Mapping[str, int]) -> list[Collective]:
    """The collectives of a compiled SPMD program, most bytes first.

    Args:
      text: `compiled.as_text()`.
      mesh_shape: size per axis, in the order of the device mesh.
    """
    bodies, entry = _computations(text)
    found: dict[tuple[str, str], list[float]] = collections.defaultdict(lambda: [0, 0.0])

    def visit(name: str, times: int) -> None:
        for op, type_, rest in bodies.get(name, ()):
            kind = op.removesuffix("-start")
            if kind in _KINDS and not op.endswith("-done"):
                members = _group(rest, mesh_shape)
                size = _moved(kind, type_, len(members), op.endswith("-start"))
                if kind == "all-reduce" and name.startswith("all-reduce-scatter"):
                    # How TPUs write it: a fusion that reduces and keeps its part; it moves half of an all-reduce.
                    kind, size = "reduce-scatter", size / 2
                entry_ = found[kind, _axes(members, mesh_shape)]
                entry_[0] += times
                entry_[1] += times * size
            trips = _trips(rest, bodies) if op == "while" else 1
            called = _CALLED.findall(rest)
            if m := _BRANCHES.search(rest):
                called += [c.strip().lstrip("%") for c in m[1].split(",")]
            for inner in called:
                visit(inner, times * trips)

    visit(entry, 1)
    made = [Collective(kind, axes, int(n), size) for (kind, axes), (n, size) in found.items()]
    return sorted(made, key=lambda c: -c.bytes)


def _trips(rest: str, bodies: dict[str, list[tuple[str, str, str]]]) -> int:
    """How often a loop runs: as the compiler noted, or from a condition that compares a counter with a constant."""
    if m := _KNOWN.search(rest):
        return int(m[1])
    condition = bodies.get(m[1], []) if (m := re.search(r"condition=%?([\w.\-]+)", rest)) else []
    limits = [int(m[1]) for op, _, text in condition if op == "constant" and (m := re.match(r"(\d+)\)", text))]
    counts = any(op == "compare" and "direction=LT" in text for op, _, text in condition)
    return limits[0] if counts and len(limits) == 1 else 1


def _computations(text: str) -> tuple[dict[str, list[tuple[str, str, str]]], str]:
    """{computation: [(op, type, rest of the line)]} and the name of the entry."""
    bodies: dict[str, list] = {}
    current, entry = None, ""
    for line in text.splitlines():
        if m := _COMPUTATION.match(line):
            current = bodies.setdefault(m["name"], [])
            entry = m["name"] if m["entry"] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (m := _INSTRUCTION.match(line)):
            current.append((m["op"], m["type"], m["rest"]))
    return bodies, entry


def _group(rest: str, mesh_shape: Mapping[str, int]) -> list[int]:
    """The members of the first group."""
    if m := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", rest):
        shape, dims = ([int(x) for x in g.split(",")] for g in (m[1], m[2]))
        ids = np.arange(math.prod(dims)).reshape(dims)
        if m[3]:
            ids = ids.transpose([int(x) for x in m[3].split(",")])
        return [int(x) for x in ids.reshape(shape)[0]]
    if m := re.search(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}", rest):
        sides = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", m[1])}
        named = re.findall(r"'(\w+)'", m[2])
        ids = np.arange(math.prod(sides.values())).reshape(tuple(sides.values()))
        return ids[tuple(slice(None) if name in named else 0 for name in sides)].reshape(-1).tolist()
    if m := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return [int(x) for x in m[1].split(",")]
    if m := re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", rest):
        return [int(m[1]), int(m[2])]
    return list(range(math.prod(mesh_shape.values())))


def _axes(members: list[int], mesh_shape: Mapping[str, int]) -> str:
    """The mesh axes along which the members of a group differ."""
    places = np.array(np.unravel_index(members, tuple(mesh_shape.values())))
    return "+".join(a for a, row in zip(mesh_shape, places) if len(set(row.tolist())) > 1) or "-"


def _moved(kind: str, type_: str, members: int, started: bool) -> float:
    """Bytes that a chip sends in one ring collective over `members` chips."""
    arrays = [_BYTES.get(d, 4) * math.prod(int(x) for x in s.split(",") if x) for d, s in _ARRAY.findall(type_)]
    if started and kind in ("all-gather", "collective-permute") and len(arrays) > 1:
        arrays = arrays[len(arrays) // 2 :] if kind == "all-gather" else arrays[:1]  # (operands, results, ...)
    size, share = sum(arrays), (members - 1) / max(members, 1)
    if kind == "reduce-scatter":
        return size * (members - 1)  # the result is one part
    return {"all-gather": share, "all-reduce": 2 * share, "all-to-all": share, "collective-permute": 1.0}[kind] * size
