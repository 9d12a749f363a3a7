"""The report at the end of a run: what the evaluators measured, under their titles, whatever kind of run it was."""

import json

import pytest
from etils import epath
from sgt_jax.configs import bagel_7b_sgt, nano_sgt, nano_vae

from sgt_jax.evaluation import items
from sgt_jax.evaluation.evaluators import EVALUATORS, by_name
from sgt_jax.evaluation.result import Result
from sgt_jax.reporting import run_results
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
    assert scores["PSNR of pictures"]["after"]["n"] == 4
    assert "PSNR of pictures, dB (n = 4)" in capsys.readouterr().out
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


def notes(config, folder, steps):
    """The notes of a page whose run was evaluated at these steps."""
    for step in steps:
        items.save_items(epath.Path(folder), step, "masks", Result({"miou": [0.5]}))
    return " ".join(run_results._notes(config, epath.Path(folder)))


def test_a_page_claims_only_what_this_run_did(tmp_path):
    of_7b = bagel_7b_sgt.get_config()
    assert notes(of_7b, tmp_path / "a", []) == ""
    assert run_results._asked(of_7b) == {"sam_held_out", "llava_held_out"}
    apart = notes(of_7b, tmp_path / "e", [0])
    assert "of the source sam_held_out (records), its first 256 records, which training leaves out." in apart
    of_7b.data.sources.sam.skip = 5
    assert "of the source sam_held_out (records), which training reads, too." in notes(of_7b, tmp_path / "e", [0])
    of_7b.evaluators = dict()
    assert run_results._unscored(of_7b, epath.Path(tmp_path / "a")) == "config.evaluators is empty"
    of_7b.evaluators = dict(masks=dict(type="masks", source="sam"))
    assert run_results._unscored(of_7b, epath.Path(tmp_path / "b")) == "no evaluation came to its end"
    text = notes(of_7b, tmp_path / "c", [1000])
    assert (
        "after step 1000, and no others" in text
        and "of the source sam (records)" in text
        and "same program" not in text
    )
    text = notes(nano_sgt.get_config(), tmp_path / "d", [0, 500])
    assert "after step 500; 'before' is the model in package:nano" in text and "drawn by the same program" in text
