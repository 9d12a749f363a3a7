"""A study end to end, at a tiny size: stages, scores on the way, a report of them, and runs that are not run twice."""

import pytest
from etils import epath
from ml_collections import ConfigDict

from sgt_jax.study import page
from sgt_jax.study.records import finished
from sgt_jax.study.run import run_study
from tests.support import tiny_experiment as tiny


def tiny_study(name):
    """Two arms and the model that they start from, one seed, four steps, scored at steps 0, 2 and 4."""
    base = tiny.config(total_steps=4, evaluate_at_start=True, evaluate_every=2)
    base.data.mixture.proxy.options = ConfigDict(dict(style="plain"))
    answers = dict(
        type="answers", source="held_out", n=16, train_source="train", train_n=16, max_new_tokens=2, batch=16
    )
    base.evaluators = ConfigDict(dict(answers=answers))
    stages = (dict(steps=2, weights=dict(understanding=0.0)), dict(weights=dict(proxy=0.0)))
    score = dict(title="answers", evaluator="answers", item="accuracy", by="kind", of=())
    arms = dict(
        base=dict(total_steps=0, evaluate_at_start=False),
        sft=dict(data=dict(mixture=dict(proxy=dict(weight=0.0)))),
        staged=dict(new=dict(data=dict(stages=stages))),
    )
    return ConfigDict(
        dict(
            name=name, seeds=(0,), base=base, arms=arms, history=True, about="Is it a test?", splits=dict(answers="kind"),
            references=("sft", "base"), favourite="staged", scores=dict(vision=score), columns=("vision",),
            headline="vision", understanding=("vision",),
        )
    )  # fmt: skip


@pytest.mark.slow
def test_stages_history_report_and_reuse(tmp_path, monkeypatch, capsys):
    first = epath.Path(tmp_path / "first" / "results")
    assert run_study(tiny_study("first"), tmp_path / "first", first), "it says that it was stopped"
    text = page.build(first).read_text()
    assert "Convergence" in text and "Is it a test?" in text
    records = {r["arm"]: r for r in finished(first)}
    assert [e["step"] for e in records["staged"]["history"]] == [0, 2, 4]
    at_two, at_end = (e["samples"] for e in records["staged"]["history"][1:])
    assert "understanding" not in at_two and at_two["proxy"] == at_end["proxy"] > 0 and at_end["understanding"] > 0
    assert records["staged"]["history"][1]["answer_tokens"] == 0 < records["staged"]["history"][2]["answer_tokens"]
    assert (
        records["staged"]["history"][2]["items"]["answers"]["accuracy"]
        == records["staged"]["items"]["answers"]["accuracy"]
    )
    assert "proxy" not in records["sft"]["samples"] and len(records["base"]["history"]) == 1
    # Another study with the same arms trains nothing.
    monkeypatch.setattr("sgt_jax.training.loop.run", lambda *_: pytest.fail("it trained what another study has"))
    second = epath.Path(tmp_path / "second" / "results")
    assert run_study(tiny_study("second"), tmp_path / "second", second, reuse=[first])
    again = {r["arm"]: r for r in finished(second)}
    assert {arm: r.pop("reused") for arm, r in again.items()} == {arm: f"first/{arm}_0" for arm in records}
    assert again == records
