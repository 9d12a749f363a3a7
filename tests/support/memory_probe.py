"""Measures the memory that importing and exporting a checkpoint of 2 GB takes, each time in a fresh process.

`python -m tests.support.memory_probe FOLDER` makes the checkpoint there, measures everything and prints a table
(about three minutes, 10 GB of disk). test_memory.py holds the numbers against their bounds.
"""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.paths import REPOSITORY, helper

MEGA = 1 << 20


def config():
    """A BAGEL of 1.15 billion parameters."""
    from sgt_jax.models.autoencoder.model import AutoencoderConfig
    from sgt_jax.models.bagel.config import BagelConfig, LlmConfig, VitConfig

    llm = dict(hidden_size=1536, intermediate_size=6144, num_hidden_layers=14, num_attention_heads=12)
    return BagelConfig(
        llm=LlmConfig(num_key_value_heads=2, vocab_size=64000, **llm),
        vit=VitConfig(
            hidden_size=96, intermediate_size=192, num_hidden_layers=3, num_attention_heads=4, image_size=112
        ),
        vae=AutoencoderConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1, z_channels=4),
        max_latent_size=16,
        vit_max_num_patch_per_side=8,
        scan_layers=True,
    )


def make(folder: Path) -> None:
    """Writes the checkpoint in bfloat16, tensor by tensor."""
    import ml_dtypes
    import numpy as np

    from sgt_jax.checkpoints.writer import Writer
    from sgt_jax.models.autoencoder.flux_names import VAE_FILE
    from sgt_jax.models.bagel.names import MODEL_FILE, name_map

    folder.mkdir(parents=True)
    config().save(folder)
    rng = np.random.default_rng(0)
    for file in (MODEL_FILE, VAE_FILE):
        names = name_map(config(), file)
        announced = {name: (ml_dtypes.bfloat16, source.shape) for name, source in names.items()}
        with Writer(folder / file, announced, {"format": "pt"}) as writer:
            for name, source in names.items():
                bits = rng.integers(0, 0x3F80, source.shape, np.uint16)  # numbers between 0 and 1
                writer.write(name, bits.view(ml_dtypes.bfloat16))


def make_pipeline(folder: Path) -> None:
    """Writes a pipeline folder of OmniGen2 of 0.6 billion parameters in bfloat16, tensor by tensor."""
    import ml_dtypes
    import numpy as np

    from sgt_jax.checkpoints.writer import Writer
    from sgt_jax.models.family import by_name
    from sgt_jax.models.omnigen2.export import PARTS, part_names
    from tests.support import local_pipeline, tiny_omnigen2

    sizes = tiny_omnigen2.values()
    sizes["dit"] |= dict(hidden_size=1536, num_layers=8, num_attention_heads=16, num_kv_heads=4, multiple_of=256,
                         axes_dim_rope=(32, 32, 32), text_feat_dim=1024)  # fmt: skip
    sizes["text"] |= dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=8, num_attention_heads=8,
                          num_key_value_heads=2, vocab_size=64000, mrope_section=(16, 24, 24))  # fmt: skip
    sizes["vision"] |= dict(out_hidden_size=1024)
    made = by_name("omnigen2").config(sizes)
    local_pipeline.bare(folder, made)
    bits = np.random.default_rng(0).integers(0, 0x3F80, 1 << 20, np.uint16)  # numbers between 0 and 1
    for part, (file, _) in PARTS.items():
        names = part_names(made, part)
        announced = {name: (ml_dtypes.bfloat16, source.shape) for name, source in names.items()}
        with Writer(folder / part / file, announced, {"format": "pt"}) as writer:
            for name, source in names.items():
                writer.write(name, np.resize(bits, source.shape).view(ml_dtypes.bfloat16))


def measure_import(folder: Path, dtype: str = "") -> dict[str, float]:
    """Imports a published folder of any family onto one device."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    from sgt_jax.models import family as families

    family = families.of_folder(folder)
    config = family.config_of_folder(folder, scan_layers=True)
    jax.device_put(0).block_until_ready()
    with Peak() as peak:
        loaded = family.load(folder, config, dtype=dtype or None)
    leaves = jax.tree.leaves(loaded.params)
    # Of stacked layers one tensor is a layer.
    largest = max(x.nbytes / (x.shape[0] if x.ndim == 3 else 1) for x in leaves)
    return {"import": peak.rise, "share": sum(x.nbytes for x in leaves) / MEGA, "largest": largest / MEGA}


def import_of(folder: Path, dtype: str = "") -> dict[str, float]:
    """`measure_import` in a fresh process."""
    return _children(["measure_import", str(folder), dtype])[0]


def facts(folder: Path) -> dict[str, float]:
    """Sizes in MB: of the whole checkpoint and of its largest tensor."""
    from sgt_jax.models.bagel.published import open_folder

    with open_folder(folder) as files:
        sizes = [tensor.nbytes for tensor in files.tensors.values()]
    return {"size": sum(sizes) / MEGA, "largest": max(sizes) / MEGA, "tensors": len(sizes)}


class Peak:
    """How far the resident memory rose inside a `with` block, in MB."""

    def __enter__(self):
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        self._before = self._read("VmRSS")
        return self

    def __exit__(self, *_):
        self.rise = self._read("VmHWM") - self._before

    @staticmethod
    def _read(field: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def measure(folder: Path, out: str, dtype: str, port: str, process: str = "0") -> dict[str, float]:
    """Import and export in this process, which may be one of four."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    if port:
        jax.distributed.initialize(f"localhost:{port}", num_processes=4, process_id=int(process))
    from jax.sharding import NamedSharding

    from sgt_jax.models.bagel.export import export_published
    from sgt_jax.models.bagel.published import load_published
    from sgt_jax.parallel.partitioning import make_mesh, spec_for

    mesh = make_mesh({"fsdp": jax.device_count()})
    jax.device_put(0).block_until_ready()
    with Peak() as peak:
        found = load_published(
            folder, sharding=lambda path, shape: NamedSharding(mesh, spec_for(path, shape, mesh)), dtype=dtype or None
        )
    leaves = jax.tree.leaves(found.params)
    share = sum(shard.data.nbytes for x in leaves for shard in x.addressable_shards) / MEGA
    result = {"import": peak.rise, "share": share}
    if out:
        with Peak() as peak:
            export_published(found.params, found.config, out, "bfloat16")
        result["export"] = peak.rise
    return result


def make_run(folder: Path, workdir: Path) -> dict[str, float]:
    """A work directory whose checkpoint holds the published folder's weights as float32 masters."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_platforms", "cpu")
    from sgt_jax.checkpoints.runs import RunCheckpoints
    from sgt_jax.models.bagel.published import load_published
    from sgt_jax.training.state import TrainState

    found = load_published(folder, dtype="float32")
    checkpoints = RunCheckpoints(workdir, asynchronous=False)
    checkpoints.save(1, TrainState(jnp.int32(1), found.params, {}, {}, jnp.int32(0))._asdict(), {})
    checkpoints.close()
    settings = {"model": found.config.to_dict(), "data": {"tokenizer": "package:nano/tokenizer.json"}}
    (workdir / "config.json").write_text(json.dumps(settings))
    return {}


def measure_convert(workdir: Path, out: str) -> dict[str, float]:
    """The convert command from a work directory."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    import sgt_jax.models.bagel.export  # noqa: F401
    from sgt_jax.training.publishing import publish

    jax.device_put(0).block_until_ready()
    with Peak() as peak:
        publish(workdir, out, "params")
    return {"convert": peak.rise}


def run(folder: Path, out: str = "", dtype: str = "", processes: int = 1) -> list[dict[str, float]]:
    """`measure` in fresh processes; one result per process."""
    return _children(["measure", str(folder), out, dtype], processes)


def convert_run(folder: Path, workdir: Path, out: Path) -> dict[str, float]:
    """`make_run` and `measure_convert`, each in a fresh process."""
    _children(["make_run", str(folder), str(workdir)])
    return _children(["measure_convert", str(workdir), str(out)])[0]


def _children(arguments: list[str], processes: int = 1) -> list[dict[str, float]]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1]) if processes > 1 else ""
    command = helper("memory_probe", "--child", *arguments)
    if arguments[0] == "measure":
        command.append(port)
    started = [
        subprocess.Popen(
            [*command, *([str(i)] if port else [])],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(processes)
    ]
    results = []
    try:
        for process in started:
            printed, errors = process.communicate(timeout=600)
            if process.returncode:
                raise RuntimeError(errors[-3000:])
            results.append(json.loads(printed.splitlines()[-1]))
    finally:
        for process in started:
            process.kill()
    return results


def main(arguments: list[str]) -> None:
    if arguments[0] == "--child":
        programs = (measure, make_run, measure_convert, measure_import)
        what = {program.__name__: program for program in programs}[arguments[1]]
        folders = 2 if what is make_run else 1
        print(json.dumps(what(*map(Path, arguments[2 : 2 + folders]), *arguments[2 + folders :])))
        return
    folder = Path(arguments[0])
    checkpoint, out = folder / "checkpoint", folder / "out"
    make(checkpoint)
    print("MB:", json.dumps(facts(checkpoint)))
    for dtype in ("", "float32"):
        print(dtype or "as in the file", run(checkpoint, str(out), dtype))
        shutil.rmtree(out)
    print("convert", convert_run(checkpoint, folder / "run", out))
    shutil.rmtree(out)
    print("four processes", run(checkpoint, str(out), processes=4))


if __name__ == "__main__":
    main(sys.argv[1:])
