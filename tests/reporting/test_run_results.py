"""The report at the end of a run: what the evaluators measured, under their titles, whatever kind of run it was."""

import json

import pytest
from sgt_jax.configs import nano_vae

from sgt_jax.evaluation.evaluators import EVALUATORS, by_name
from sgt_jax.training import loop


def untrained_vae():
    """configs/nano_vae.py made tiny and without a training step, which is compiled for longer than the rest takes."""
    config = nano_vae.get_config()
    config.total_steps = 0
    config.model.vae.update(ch_mult=(1, 1), z_channels=2)
    for source in config.data.sources.values():
        source.num = 8
    config.data.rows = 4  # one a device that tests see
    config.evaluators.pictures.update(n=4, show=2)
    config.report = True
    return config


def test_a_run_of_the_autoencoder_ends_with_a_report(tmp_path, capsys):
    loop.train(untrained_vae(), str(tmp_path))
    results = json.loads((tmp_path / "results.json").read_text())
    scores = {score["name"]: score for score in results["scores"]}
    assert scores["PSNR of photographs"]["after"]["n"] == 4
    assert "PSNR of photographs, dB (n = 4)" in capsys.readouterr().out
    (pictures,) = results["pictures"]
    assert pictures["title"] == "Pictures through the autoencoder alone" and len(pictures["rows"]) == 2
    page = (tmp_path / "report.html").read_text()
    assert "Pictures through the autoencoder alone" in page and "mask mIoU" in page
    assert results["run"]["parameters"]["vae"] > 0


@pytest.mark.parametrize("kind", EVALUATORS)
def test_every_evaluator_has_a_title_and_scores(kind):
    evaluator = by_name(kind)
    title, caption = evaluator.TITLE
    assert title and (not caption or caption.endswith(".")) and callable(evaluator.scores)
