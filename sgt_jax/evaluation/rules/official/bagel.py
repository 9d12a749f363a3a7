"""The rules of BAGEL's own evaluation scripts for MME, MMVP and POPE."""

import re
from collections.abc import Mapping, Sequence

from sgt_jax.evaluation.rules.official.tables import mean
from sgt_jax.evaluation.rules.official.yes_no import COGNITION as COGNITION_TASKS

PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)  # fmt: skip
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
assert sorted(COGNITION) == sorted(COGNITION_TASKS)
SHORT_ANSWER = "Answer the question using a single word or phrase."
LETTER_ANSWER = "Answer with the option's letter from the given choices directly."

# -- MME ---------------------------------------------------------------------------------------------------------------


def normalise_mme(reply: str) -> str:
    """The reply as MME's result files hold it: one line, lower case, true and false as yes and no, Chinese removed."""
    text = reply.replace("\n", "").replace("不是", "No").replace("是", "Yes").replace("否", "No").lower()
    text = text.replace("true", "yes").replace("false", "no")
    return re.sub("[\u4e00-\u9fa5]", "", text)


def mme_label(line_end: str) -> str:
    """ "yes", "no" or "other" of the last field of a result line: what stands in its first four characters, yes first."""
    start = line_end.lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else "other"


def mme_task_score(labels: Sequence[str], answers: Sequence[str]) -> float:
    """100 acc + 100 both right, over pairs of consecutive lines."""
    hits = [label == answer.lower() for label, answer in zip(labels, answers, strict=True)]
    pairs = [hits[i] and hits[i + 1] for i in range(0, len(hits) - 1, 2)]
    return mean(hits) * 100 + mean(pairs) * 100


def mme_summary(scores: Mapping[str, float]) -> str:
    """The text that the official script prints."""
    text = ""
    for title, names in (("Perception", PERCEPTION), ("Cognition", COGNITION)):
        text += f"=========== {title} ===========\ntotal score: {sum(scores[name] for name in names)} \n\n"
        text += "".join(f"\t {name} score: {scores[name]}\n" for name in names) + "\n\n"
    return text


# -- MMVP --------------------------------------------------------------------------------------------------------------


def mmvp_options(text: str) -> dict[str, str]:
    """ "(a) Open (b) Closed" -> {"A": "Open", "B": "Closed"}."""
    first, _, second = text.partition("(b)")
    return {"A": first.replace("(a)", "").strip(), "B": second.strip()}


def mmvp_prompt(question: str, options: Mapping[str, str]) -> str:
    """The question, its options by letter, and the wish for a letter."""
    lines = [question, *(f"{name}. {text}" for name, text in options.items()), LETTER_ANSWER]
    return "\n".join(lines)


def read_mmvp(reply: str, options: Mapping[str, str]) -> str:
    """A single character as it is; else the first character if it is an option; else the first option contained; else all.

    Raises:
      IndexError: an empty reply, as in the official script.
    """
    if len(reply) == 1 or reply[0] in options:
        return reply[0]
    return next((name for name, text in options.items() if text in reply), reply)


# -- POPE --------------------------------------------------------------------------------------------------------------


def read_pope(reply: str) -> str:
    """ "no" if No, not or no is a word before the first full stop (split at single blanks, commas removed), else "yes"."""
    words = reply.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def pope_scores(read: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
    """Counts, accuracy, precision, recall, F1 and the share of yes of one category; a mean over nothing is 0."""
    pairs = list(zip((word == "yes" for word in read), (label != "no" for label in labels), strict=True))
    counts = {
        "TP": sum(r and a for r, a in pairs),
        "FP": sum(r and not a for r, a in pairs),
        "TN": sum(not r and not a for r, a in pairs),
        "FN": sum(a and not r for r, a in pairs),
    }
    said, true = counts["TP"] + counts["FP"], counts["TP"] + counts["FN"]
    precision = counts["TP"] / said if said else 0.0
    recall = counts["TP"] / true if true else 0.0
    both = precision + recall
    return {
        "f1": 2 * precision * recall / both if both else 0.0,
        "accuracy": (counts["TP"] + counts["TN"]) / len(pairs),
        "precision": precision,
        "recall": recall,
        "yes_ratio": said / len(pairs),
        **counts,
    }
