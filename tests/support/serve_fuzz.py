"""Mutated requests against a running server: each gets an error of the client's or a right answer, and hurts nobody else.

    python -m tests.support.serve_fuzz --count 1000 --json docs/results/serving/fuzz.json

starts a server of its own. After every hundred mutations a known request must get its known answer.
"""

import argparse
import collections
import json
import random
import signal
import sys
import time
from pathlib import Path

from sgt_jax.commands.bench_serve import CHAT, DRAW, EDIT, SEGMENT, Asked, Server, chat, photo, same

SLOWEST = 10.0  # seconds that an answer may take
NASTY = (
    None, True, 0, -1, 1.5, 1e308, -1e308, 10**30, float("nan"), float("inf"), "", " ", "\x00", "\ud800", "é" * 300,
    "x" * 20_000, [], {}, [[]], [None], {"a": 1}, "data:", "data:image/png;base64,", "data:image/png;base64,AAAA", "file:///etc/passwd",
    "http://127.0.0.1:1/x.png", "<|im_end|>", "<|vision_start|>" * 50, [1] * 1000, {"type": "text"}, "0x0", "9999x9999", "-1",
    "16x32", "8x8", "red circle " * 40, "a " * 480, 0.5, 3, 49, "global",
)  # fmt: skip


def seeds() -> list[Asked]:
    """Right requests that mutations start from."""
    return [
        chat(1, 2, max_tokens=4, stream=False, temperature=0.5, stop=["red"], n=1),
        chat(2, 1, max_tokens=3, stream=True, stream_options={"include_usage": True}),
        Asked(DRAW, {"model": "nano", "prompt": "a red circle", "size": "32x32", "steps": 2, "seed": 1, "shift": 2.0}),
        Asked(EDIT, {"prompt": "remove the circle", "image": [photo(1)], "steps": 2, "text_scale": 2.0, "image_scale": 1.5}),
        Asked(SEGMENT, {"image": photo(2), "palette": "distinct", "steps": 2}),
    ]


def mutated(draw: random.Random, asked: Asked) -> tuple[str, bytes]:
    """(path, body) of a request with one to three things changed."""
    body = json.loads(json.dumps(asked.body))
    for _ in range(draw.randint(1, 3)):
        if draw.random() < 0.8:
            _change(draw, body)
    data = bytearray(json.dumps(body).encode("utf-8", "surrogatepass"))
    if draw.random() < 0.3:  # damage on the way
        for _ in range(draw.randint(1, 8)):
            data[draw.randrange(len(data))] = draw.randrange(256)
    if draw.random() < 0.1:
        del data[draw.randrange(len(data)) :]
    return draw.choice([asked.path] * 9 + [CHAT, DRAW, EDIT, SEGMENT]), bytes(data)


def _change(draw: random.Random, value: object) -> None:
    """Replaces, removes or doubles one entry somewhere below an object or a list."""
    while isinstance(value, dict | list) and value:
        key = draw.choice(list(value)) if isinstance(value, dict) else draw.randrange(len(value))
        inner = value[key]
        if isinstance(inner, dict | list) and inner and draw.random() < 0.7:
            value = inner
            continue
        kind = draw.random()
        if kind < 0.7:
            value[key] = draw.choice(NASTY)
        elif kind < 0.85:
            del value[key]
        elif isinstance(value, list):
            value.append(inner)
        else:
            value[f"{key}x"] = inner
        return


def fuzz(server: Server, count: int, seed: int) -> dict:
    """Sends `count` mutations, and a known request after every hundred (or fewer)."""
    draw, right = random.Random(seed), seeds()
    known = chat(9, 1, max_tokens=12, temperature=1.0, ignore_eos=True)
    answer, compiled = server.ask(known)[1], server.compiled()
    found = {"mutations": count, "failed": [], "slow": [], "known_right": 0, "known_wrong": 0}
    statuses: collections.Counter = collections.Counter()
    slowest = 0.0
    for number in range(count):
        path, body = mutated(draw, draw.choice(right))
        began = time.monotonic()
        try:
            status, reply = server.request("POST", path, body, timeout=60)
        except OSError as error:
            status, reply = 0, str(error).encode()
        taken = time.monotonic() - began
        slowest = max(slowest, taken)
        statuses[status] += 1
        well_formed = status == 200 or (400 <= status < 500 and "error" in json.loads(reply))
        if not well_formed:
            said = reply[:200].decode("utf-8", "replace")
            found["failed"].append({"number": number, "status": status, "path": path, "reply": said})
        if taken > SLOWEST:
            found["slow"].append({"number": number, "status": status, "path": path, "seconds": round(taken, 1)})
        if number % 100 == 99 or number == count - 1:
            status, reply = server.ask(known)
            found["known_right" if status == 200 and same(known, answer, reply) else "known_wrong"] += 1
    found["compiled_late"] = int(server.compiled() - compiled)
    return found | {"statuses": {str(k): n for k, n in sorted(statuses.items())}, "slowest_seconds": round(slowest, 2)}


def main() -> int:
    """The campaign; 1 when anything failed."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--count", type=int, default=1000)
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--json", type=Path)
    options = flags.parse_args()
    server = Server("package:nano")
    try:
        server.wait()
        found = fuzz(server, options.count, options.seed)
    finally:
        server.stop(signal.SIGKILL)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(bool(found["failed"] or found["slow"] or found["known_wrong"] or found["compiled_late"]))


if __name__ == "__main__":
    sys.exit(main())
