"""From published files to a published checkpoint and a picture: every command of the two families' local configs."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sgt_jax.configs import bagel_7b_sgt, omnigen2_sgt

from sgt_jax.commands import ingest, tokenize
from sgt_jax.inference import load
from sgt_jax.reporting.metrics import read_metrics
from sgt_jax.training import loop, publishing
from tests.support import benchmark_folders, local_pipeline, local_road

# Family -> (what makes its files, its config as a command names it, the run, which of its weights go to which file, how
# the trained model reads, what size it paints).
ROADS = {
    "bagel": (
        local_road.make, f"{bagel_7b_sgt.__file__}:local", lambda: bagel_7b_sgt.get_config("local"),
        "ema", "ema.safetensors", dict(vit=(56, 56)), (80, 128),
    ),
    "omnigen2": (
        local_pipeline.make, local_pipeline.__file__, local_pipeline.get_config,
        "params", "transformer/diffusion_pytorch_model.safetensors", {}, (24, 32),
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("family", ROADS)
def test_ingest_tokenize_train_convert_sample(family, tmp_path, monkeypatch, capsys):
    make, file, get_config, weights, published, options, shape = ROADS[family]
    make(tmp_path)
    monkeypatch.chdir(tmp_path)  # the config's paths are relative, and nothing in it is changed here

    skip = ["--workers=0", "--on-bad=skip"]
    sam = ["type=sam_sgt", "root=data/SAM-SGT", "index=file_names/sam_190k_new.txt", "data/records/sam_sgt"]
    assert ingest.main([*sam, *skip]) == 0
    assert ingest.main(["type=llava_onevision", f"root={local_road.LLAVA}", "data/records/llava_onevision", *skip]) == 0
    said = capsys.readouterr().out
    assert "6 records" in said and "left out: 1 missing mask" in said and "sa_6.jpg" in said and "8 records" in said

    assert tokenize.main([f"--config={file}", "--batch=2", "--threads=2"]) == 0
    assert "4 records at" in capsys.readouterr().out, "two are held out"

    config = get_config()
    state = loop.train(config, "run")
    assert int(state.step) == config.total_steps and int(state.skipped) == 0
    lines = read_metrics("run", kind="train")
    assert [line["step"] for line in lines] == list(range(1, config.total_steps + 1))
    assert all(np.isfinite([line["ce"], line["mse"]]).all() and line["mse"] > 0 for line in lines)
    samples = json.loads(Path("run/run.json").read_text())["samples"]
    # 2:1 over the stream; what waits in the pools of the rows is not counted yet.
    assert abs(samples["segmentation"] - 2 * samples["understanding"]) <= 2 * config.data.rows * config.data.pool_size
    assert set(samples) == {"segmentation", "understanding"}

    # The page of a run that costs money shows photos before and after, and the loss on what no step has seen.
    results = json.loads(Path("run/results.json").read_text())
    (block,) = results["pictures"]
    assert block["columns"] == ["condition", "target", "before", "after"] and len(block["rows"]) == 2
    assert all((Path("run") / path).exists() for row in block["rows"] for path in row)
    scores = {score["name"]: score for score in results["scores"]}
    assert scores["cross-entropy per answer token"]["before"] and scores["flow loss per latent token"]["over_before"]
    assert [line["step"] for line in read_metrics("run", kind="eval") if "loss/mse" in line] == [0, config.total_steps]
    page = Path("run/report.html").read_text()
    assert page.count('alt="target, example') == 2 and "its first 2 records, which training leaves out" in page

    publishing.publish("run", "checkpoints/SGT-local", weights)
    assert (Path("checkpoints/SGT-local") / published).exists()
    model = load.load("checkpoints/SGT-local")
    assert model.family.name == family
    photo = np.asarray(Image.open("data/SAM-SGT/sam_selection/part_0/sa_0.jpg"))
    plain = model.family.guidance(text_scale=1.0)
    settings = dataclasses.replace(model.defaults["segment"], steps=2, guidance=plain, **options)
    painted = model.segment(photo, settings=settings, shape=shape)[0].painting
    assert painted.dtype == np.uint8 and painted.shape == (*shape, 3)


@pytest.mark.slow  # it compiles OmniGen2's losses and its painter
def test_the_page_of_omnigen2_shows_pictures_losses_and_a_configured_benchmark(tmp_path):
    config = omnigen2_sgt.get_config("local+benchmarks")
    assert set(config.evaluators) == {"masks", "loss", "mmvp", "pope"}
    del config.evaluators["pope"]  # one is enough
    config.evaluators.mmvp.folder = str(benchmark_folders.toolkit_tables(tmp_path, "mmvp"))
    config.total_steps = 0  # a step would be compiled for longer than the rest takes
    loop.train(config, tmp_path / "run")
    results = json.loads((tmp_path / "run/results.json").read_text())
    (block,) = results["pictures"]
    assert block["columns"] == ["condition", "target", "prediction"] and len(block["rows"]) == 2
    names = {score["name"] for score in results["scores"] if not score["kind"]}
    assert names == {"mask mIoU", "panoptic quality (class-agnostic)", "cross-entropy per answer token",
                     "flow loss per latent token", "MMVP, 2 of 300 items"}  # fmt: skip
    page = (tmp_path / "run/report.html").read_text()
    assert page.count('alt="prediction, example') == 2 and "MMVP, 2 of 300 items" in page
