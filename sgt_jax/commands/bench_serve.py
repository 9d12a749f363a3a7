"""python -m sgt_jax bench-serve: a server under many clients, its replies against those that it gave one by one.

    bench-serve --requests 500 --clients 16 --json load.json

Starts a server of its own, asks every request of a mixed pool (chats, drawings, edits, segmentations) once and alone, and
then many of them at a time. It counts what was lost or differs, times replies, compares tokens per second of the server's
processor time with one text at a time, and looks at memory and programs compiled. In the end it stops the server by SIGTERM
while requests are in work, starts it again, kills it, and starts it once more.
"""

import argparse
import base64
import contextlib
import http.client
import io
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from sgt_jax import errors
from sgt_jax.commands.options import positive
from sgt_jax.commands.parsing import Parser
from sgt_jax.errors import ConfigError

CHAT, DRAW, EDIT, SEGMENT = ("/v1/chat/completions", "/v1/images/generations", "/v1/images/edits", "/v1/segmentations")
TEXT_TOKENS = 64
_START = 900.0  # seconds that a first start may take


class Asked(NamedTuple):
    """A request: where to, and its body."""

    path: str
    body: Mapping[str, Any]


class Server:
    """A server in a process of its own, on this machine."""

    def __init__(self, checkpoint: str, more: Sequence[str] = ()) -> None:
        command = [sys.executable, "-m", "sgt_jax", "serve", "--checkpoint", checkpoint, "--port", "0", *more]
        self.began = time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("serving at http://"):
            raise ConfigError(f"the server did not start: {line.strip() or 'it printed nothing'}")
        self.host, self.port = line.split("/")[2].split(":")

    def request(self, method: str, path: str, body: bytes | None = None, timeout: float = 300) -> tuple[int, bytes]:
        """(status, body) of one request on a connection of its own. Raises OSError."""
        connection = http.client.HTTPConnection(self.host, int(self.port), timeout=timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            reply = connection.getresponse()
            return reply.status, reply.read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from None
        finally:
            connection.close()

    def ask(self, asked: Asked) -> tuple[int, bytes]:
        """(status, body) of a request of the pool."""
        return self.request("POST", asked.path, json.dumps(asked.body).encode())

    def wait(self) -> float:
        """Seconds from the start until it was ready."""
        while time.monotonic() - self.began < _START:
            if self.process.poll() is not None:
                raise ConfigError("the server ended before it was ready")
            if self.request("GET", "/health")[0] == 200:
                return time.monotonic() - self.began
            time.sleep(0.1)
        raise ConfigError(f"the server was not ready after {_START:.0f} s")

    def numbers(self) -> dict[str, float]:
        """What /metrics says, by name and labels."""
        lines = self.request("GET", "/metrics")[1].decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def compiled(self) -> float:
        """Programs that it has compiled so far, or read from the disk."""
        return sum(value for name, value in self.numbers().items() if name.startswith("sgt_programs_compiled"))

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status."""
        self.process.send_signal(how)
        return self.process.wait(120)


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = Parser(prog="python -m sgt_jax bench-serve", description=__doc__)
    add = flags.add_argument
    add("--checkpoint", default="package:nano", metavar="DIR")
    add("--requests", type=positive, default=500)
    add("--clients", type=positive, default=16)
    add("--texts", type=positive, default=32, help="texts whose tokens are counted, one by one and then all at a time")
    add("--seed", type=int, default=0)
    add("--json", type=Path, metavar="FILE", help="also write the numbers to this file")
    return flags


def main(arguments: list[str]) -> int:
    """The command; 1 after an error, or when a request was lost or wrong."""
    return errors.status(lambda: run(parser().parse_args(arguments)), also=(OSError,))


def run(options: argparse.Namespace) -> int:
    """Starts a server, measures, prints; 1 when a request was lost or wrong, or compiled a program."""
    server = Server(options.checkpoint)
    try:
        found: dict[str, Any] = {"first_start_seconds": round(server.wait(), 1), "cores": os.cpu_count()}
        found |= under_load(server, options.requests, options.clients, options.seed)
        found |= throughput(server, options.texts, options.clients)
        found |= {"stopped": stopped_under_load(server, options.clients)}
    finally:
        server.process.kill()
    found |= restarted(options.checkpoint)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    wrong = [found["lost"], found["wrong"], found["compiled_late"], found["stopped"]["lost"]]
    return int(any(wrong) or not found["same_answer_after_kill"])


# -- The pool ----------------------------------------------------------------------------------------------------------


def photo(seed: int, side: int = 32) -> str:
    """A data URI of coarse blocks of colour."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(np.kron(blocks, np.ones((side // 4, side // 4, 1), np.uint8))).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def chat(seed: int, pictures: int, **more: Any) -> Asked:
    """A chat about so many pictures."""
    parts = [{"type": "image_url", "image_url": {"url": photo(seed + n)}} for n in range(pictures)]
    content = [*parts, {"type": "text", "text": "what colour is the circle ?"}]
    return Asked(CHAT, {"messages": [{"role": "user", "content": content}], "seed": seed, **more})


def pool(seed: int) -> list[Asked]:
    """Different requests of every kind; three of four are chats."""
    found = []
    for n in range(seed, seed + 10):
        long = {"ignore_eos": True, "temperature": 3.0}
        found += [
            chat(n, 0), chat(n, 1), chat(n, 2, max_tokens=32_768), chat(n, 1, max_tokens=8, **long),
            chat(n, 0, max_tokens=48, **long), chat(n, 3, max_tokens=20, **long),
            (
                Asked(DRAW, {"prompt": "a red circle and a blue square", "seed": n}),
                Asked(EDIT, {"prompt": "remove the circle", "seed": n, "image": photo(n)}),
            )[n % 2],
            Asked(SEGMENT, {"seed": n, "image": photo(n)}),
        ]  # fmt: skip
    return found


def same(asked: Asked, one: bytes, other: bytes) -> bool:
    """Whether two replies say the same: equal texts, or pictures within one grey level."""
    first, second = json.loads(one), json.loads(other)
    if asked.path == CHAT:
        keys = ("message", "finish_reason")
        return [[c[k] for k in keys] for c in first["choices"]] == [[c[k] for k in keys] for c in second["choices"]]
    one_picture, other_picture = (_pixels(found["data"][0]["b64_json"]) for found in (first, second))
    return one_picture.shape == other_picture.shape and int(np.abs(one_picture - other_picture).max()) <= 1


def _pixels(data: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


# -- Measuring ---------------------------------------------------------------------------------------------------------


def under_load(server: Server, count: int, clients: int, seed: int) -> dict[str, Any]:
    """Asks the pool one by one, and then `count` requests of it from `clients` at a time."""
    asked = pool(seed)
    alone = [server.ask(one) for one in asked]
    if bad := [(one.path, status) for one, (status, _) in zip(asked, alone, strict=True) if status != 200]:
        raise ConfigError(f"a request of the pool was refused: {bad[0]}")
    draw, compiled = random.Random(seed), server.compiled()
    order = [draw.randrange(len(asked)) for _ in range(count)]
    seconds, memory, outcomes, lock = [], {}, {"lost": 0, "wrong": 0}, threading.Lock()

    def one(number: int) -> None:
        began = time.monotonic()
        try:
            status, body = server.ask(asked[order[number]])
        except OSError:
            status, body = 0, b""
        with lock:
            seconds.append(time.monotonic() - began)
            if status != 200:
                outcomes["lost"] += 1
            elif not same(asked[order[number]], body, alone[order[number]][1]):
                outcomes["wrong"] += 1
            if len(seconds) in (min(100, count), count):
                memory[len(seconds)] = server.numbers()["process_resident_memory_bytes"]

    began = time.monotonic()
    _all(one, range(count), clients)
    late = server.compiled() - compiled
    seconds.sort()
    return {
        "requests": count, "clients": clients, **outcomes, "seconds": round(time.monotonic() - began, 1),
        "p50": round(statistics.median(seconds), 3), "p95": round(seconds[int(0.95 * (len(seconds) - 1))], 3),
        "memory_growth_percent": round(100 * (memory[count] / memory[min(100, count)] - 1), 2), "compiled_late": int(late),
    }  # fmt: skip


def throughput(server: Server, count: int, clients: int) -> dict[str, Any]:
    """Tokens per second of the server's processor time: texts one at a time, and all clients at once."""
    texts = [chat(n, 1, max_tokens=TEXT_TOKENS, ignore_eos=True, temperature=1.0) for n in range(count)]

    def speed(at_a_time: int) -> float:
        before = server.numbers()["process_cpu_seconds_total"]
        replies = _all(server.ask, texts, at_a_time)
        written = sum(json.loads(body)["usage"]["completion_tokens"] for _, body in replies)
        return written / (server.numbers()["process_cpu_seconds_total"] - before)

    one, many = speed(1), speed(clients)
    return {"tokens_per_cpu_second": {"one_at_a_time": round(one, 1), f"{clients}_clients": round(many, 1)},
            "times_one_at_a_time": round(many / one, 2)}  # fmt: skip


def stopped_under_load(server: Server, clients: int) -> dict[str, int]:
    """Sends SIGTERM while requests are in work; whoever was accepted must be answered."""
    replies: list[int] = []

    def one(number: int) -> None:
        try:
            replies.append(server.ask(chat(number, 1, max_tokens=200, ignore_eos=True))[0])
        except OSError:
            replies.append(0)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        load = [value for name, value in server.numbers().items() if name.startswith("sgt_load")]
        if sum(load) >= clients - 1:
            break
        time.sleep(0.02)
    status = server.stop()
    for thread in threads:
        thread.join(60)
    return {
        "in_work": clients,
        "answered": replies.count(200),
        "lost": clients - replies.count(200),
        "exit_status": status,
    }


def restarted(checkpoint: str) -> dict[str, Any]:
    """Seconds until a server is ready again with what was compiled on disk: after SIGTERM, and after SIGKILL in its work.

    Also whether it then gives a request the answer that it gave before.
    """
    found: dict[str, Any] = {}
    known = chat(9, 1, max_tokens=12, temperature=1.0, ignore_eos=True)
    server, answers = Server(checkpoint), []
    try:
        for name in ("warm_start_seconds", "start_after_kill_seconds"):
            found[name] = round(server.wait(), 1)
            answers.append(server.ask(known)[1])
            if len(answers) == 1:
                work = [threading.Thread(target=_lost, args=(server, one)) for one in pool(100)[:16]]
                for thread in work:
                    thread.start()
                time.sleep(0.3)
                server.stop(signal.SIGKILL)
                server = Server(checkpoint)
    finally:
        server.stop(signal.SIGKILL)
    return found | {"same_answer_after_kill": same(known, *answers)}


def _lost(server: Server, asked: Asked) -> None:
    """Asks for what will never be answered."""
    with contextlib.suppress(OSError):
        server.ask(asked)


def _all(function: Callable[[Any], Any], items: Sequence[Any], at_a_time: int) -> list[Any]:
    with ThreadPoolExecutor(at_a_time) as threads:
        return list(threads.map(function, items))
