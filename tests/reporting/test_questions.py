"""Questions below the pictures of a report: joined by picture, gained ones first, from the run before, beside and after."""

from etils import epath

from sgt_jax.evaluation import items
from sgt_jax.evaluation.result import Result
from sgt_jax.evaluation.schedule import Beside
from sgt_jax.reporting import questions

EVALUATORS = {
    "masks": dict(type="masks", source="held_out"),
    "told": dict(type="answers", source="held_out"),
    "elsewhere": dict(type="answers", source="other"),
}
PICTURES, RIGHT = ["a", "b", "c"], ["red", "blue", "green"]


def answered(folder, step, said):
    """Leaves answers of one evaluation in a work directory."""
    right = [int(a == b) for a, b in zip(said, RIGHT)]
    asked = [f"which colour has {name} ?" for name in PICTURES]
    found = dict(accuracy=right, prediction=said, answer=RIGHT, picture=PICTURES, question=asked)
    items.save_items(epath.Path(folder), step, "told", Result(found))


def block():
    return {"caption": "Masks.", "rows": [["A"], ["B"]]}


def test_what_the_run_gained_comes_first_and_all_answers_are_told(tmp_path):
    mine, other = (epath.Path(tmp_path / name) for name in ("mine", "other"))
    answered(mine, 0, ["red", "red", "red"])
    answered(mine, 9, ["blue", "blue", "green"])
    answered(other, 5, ["red", "green", "green"])
    shown = block()
    asked = questions.about(EVALUATORS, "held_out", mine, Beside("SFT", other))
    questions.add(shown, asked, ["a", "b", "c"])
    assert shown["rows"] == [["B"], ["A"]]  # the second is right here and wrong in SFT
    first, second = shown["captions"]
    assert first == "which colour has b ? (blue) before: red ✗; SFT: green ✗; after: blue ✓"
    assert second.endswith("SFT: red ✓; after: blue ✗")
    assert shown["caption"].endswith("Questions that it has right and SFT has wrong come first.")
    alone = questions.about(EVALUATORS, "held_out", mine, None)
    assert str(alone["b"]).endswith("(blue) before: red ✗; after: blue ✓") and alone["b"].gained


def test_pictures_that_nobody_asked_about_have_no_questions(tmp_path):
    answered(tmp_path, 9, RIGHT)
    workdir = epath.Path(tmp_path)
    assert questions.about(EVALUATORS, None, workdir, None) == questions.about({}, "held_out", workdir, None) == {}
    assert questions.about(EVALUATORS, "other", workdir, None) == {}  # asked, and not scored yet
    shown = block()
    questions.add(shown, questions.about(EVALUATORS, "held_out", workdir, None), ["a", "elsewhere"])
    assert shown == block()
