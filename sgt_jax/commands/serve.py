"""python -m sgt_jax serve --checkpoint DIR: a page to try a model, and an endpoint that other tools already speak.

    serve --checkpoint package:nano
    serve --checkpoint DIR --compare BASE --port 9000 --api-key-file key.txt

The page is at http://HOST:PORT/, the endpoint at http://HOST:PORT/v1 (chat/completions, images/generations, images/edits,
segmentations, models); docs/serving.md shows clients. The first start compiles for minutes, and /health says 503 until then;
later starts find the programs on disk. Stop it with Ctrl-C or SIGTERM: it answers what it has accepted. It needs the extra
[serve]: pip install 'sgt_jax[serve]'.
"""

import argparse
import dataclasses
import os
import signal
import socket
import sys
from pathlib import Path

from sgt_jax import errors
from sgt_jax.commands.adapter_options import check_folders
from sgt_jax.commands.mesh_option import add_mesh, mesh_of
from sgt_jax.commands.options import positive
from sgt_jax.commands.parsing import Parser
from sgt_jax.errors import ConfigError


def parser() -> argparse.ArgumentParser:
    """The command line."""
    flags = Parser(prog="python -m sgt_jax serve", description=__doc__)
    add = flags.add_argument
    add("--checkpoint", default="package:nano", metavar="DIR", help="as in sample (default: package:nano)")
    add("--compare", metavar="DIR", help="a second checkpoint, which the page shows beside the first")
    add("--base", metavar="DIR", help="a BAGEL folder with the files that an SGT release lacks")
    add("--weights", choices=("ema", "params"), default="ema")
    add("--dtype", choices=("float32", "bfloat16"), help="to compute in (default: float32 on CPU, else bfloat16)")
    add("--adapter", metavar="DIR", action="append", default=[],
        help="an adapter, served beside its base as BASE+NAME (may be repeated)")  # fmt: skip
    add("--adapter-scale", type=float, default=1.0, metavar="S", help="what adapters' scales are multiplied with")
    add("--name", help="of the model in requests (default: the folder's)")
    add("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 for all (default: 127.0.0.1)")
    add("--port", type=int, default=8000, help="0 takes a free one; it is printed (default: 8000)")
    add(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="a file whose first line clients must send; or set SGT_API_KEY",
    )
    add_mesh(flags)
    add("--slots", type=positive, default=8, help="texts that are written at a time")
    add("--pictures", type=positive, default=4, help="pictures that are painted at a time")
    add("--sizes", metavar="WxH,...", help="sizes of pictures to compile for (default: the model's square)")
    add("--context", type=int, default=0, help="tokens that a chat may take (default: the model's, at most 8192)")
    add("--queue", type=positive, default=64, help="requests that may wait; more are refused with 429")
    add("--timeout", type=positive, default=600, help="seconds that a request may take")
    add("--deterministic", action="store_true", help="pad every batch, so that a reply never depends on the load")
    return flags


def main(arguments: list[str]) -> int:
    """The command; 1 after an error."""
    options = parser().parse_args(arguments)
    return errors.status(lambda: serve(options), also=(OSError,))


def serve(options: argparse.Namespace) -> None:
    """Loads, listens, compiles, serves until it is told to stop."""
    try:
        import uvicorn

        from sgt_jax.inference.page.app import make_app
    except ModuleNotFoundError as error:
        raise ConfigError(f"serve needs {error.name}: pip install 'sgt_jax[serve]'") from None
    check_folders(options)
    key = api_key(options)
    listening = socket.create_server((options.host, options.port))  # before the model, which may take minutes
    service = make_service(options, key)

    def close() -> None:
        for engine in service.engines.values():
            engine.stop()

    for engine in service.engines.values():
        engine.start()
    host, port = listening.getsockname()[:2]
    print(f"serving at http://{host}:{port}/ (the endpoint is http://{host}:{port}/v1)", flush=True)
    for one in (signal.SIGINT, signal.SIGTERM):  # uvicorn sends itself the signal again when it has finished
        signal.signal(one, lambda number, frame: None)
    config = uvicorn.Config(make_app(service, close), log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])


def api_key(options: argparse.Namespace) -> str:
    """The key that clients must send, "" for none. Raises ConfigError: an empty file."""
    if options.api_key_file is None:
        return os.environ.get("SGT_API_KEY", "")
    lines = options.api_key_file.read_text(encoding="utf-8").split()
    if not lines:
        raise ConfigError(f"--api-key-file {options.api_key_file}: is empty; write the key into it")
    return lines[0]


def make_service(options: argparse.Namespace, key: str = ""):  # noqa: ANN201
    """The engines of the checkpoints that the options name, not started yet.

    Models of one kind, such as a base and its adapters, share their compiled programs. Raises DataError: a size that a model
    does not paint.
    """
    from sgt_jax.inference import load
    from sgt_jax.inference.engine import Engine, Limits
    from sgt_jax.inference.page.service import Service

    limits = Limits(
        slots=options.slots, pictures=options.pictures, context=options.context, waiting=options.queue,
        deterministic=options.deterministic,
    )  # fmt: skip
    mesh = mesh_of(options.mesh)
    engines, weights = {}, {}

    def add(name: str, said: str, assistant) -> None:  # noqa: ANN001
        sizes = sizes_of(options.sizes) or (assistant.usual_shape,)
        alike = [one for one in engines.values() if Engine.kind_of(one.assistant) == Engine.kind_of(assistant)]
        programs = alike[0].programs if alike else None
        engines[name] = Engine(assistant, dataclasses.replace(limits, sizes=sizes), mesh, programs)
        weights[name] = said

    for folder in [options.checkpoint, *([options.compare] if options.compare else [])]:
        said: list[str] = []
        assistant = load.load(
            folder, base=options.base, weights=options.weights, dtype=options.dtype, report=said.append, mesh=mesh
        )  # fmt: skip
        print("\n".join(said), file=sys.stderr)
        name = name_of(folder) if engines or not options.name else options.name
        name = f"{name}-2" if name in engines else name
        add(name, folder_name(folder), assistant)
        for adapter in options.adapter if folder == options.checkpoint else ():
            tuned = load.with_adapter(assistant, adapter, options.adapter_scale)
            add(f"{name}+{name_of(adapter)}", f"{folder_name(folder)} + {folder_name(adapter)}", tuned)
    return Service(engines, weights, key, options.timeout)


def sizes_of(text: str | None) -> tuple[tuple[int, int], ...]:
    """(height, width) of every size that --sizes names. Raises ConfigError: not written as WxH,WxH,..."""
    pairs = [size.strip().lower().split("x") for size in text.split(",")] if text else []
    if not all(len(pair) == 2 and all(side.isdecimal() and int(side) for side in pair) for pair in pairs):
        raise ConfigError(f"--sizes {text}: write it as WIDTHxHEIGHT,..., such as 1024x1024,1024x768")
    return tuple((int(height), int(width)) for width, height in pairs)


def name_of(folder: str) -> str:
    """The name of a model in requests: "nano" for package:nano."""
    return folder_name(folder).rpartition(":")[2] or "model"


def folder_name(folder: str) -> str:
    """A checkpoint's name without where it lies, which may be private."""
    return Path(folder).name or "model"
