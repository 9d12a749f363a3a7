"""Replies that break careless readers, each with the outcome that the official rule has and, where given, our own."""

import time

import pytest

from sgt_jax.errors import DataError
from sgt_jax.evaluation.rules.official import arithmetic, bagel, choices, judged, mathvista, sibench, tables, yes_no

FOUR = {"A": "star", "B": "cube", "C": "ball", "D": "ring"}
LONG = "word " * 2000

# (reply, options, what the official rule reads, what ours reads)
CHOICES = [
    ("", FOUR, None, None),
    ("nan", FOUR, None, None),
    ("B", {"B": "cube"}, "B", "B"),  # one option
    ("E", FOUR, None, None),  # outside the options
    ("A star", FOUR, "A", "A"),
    ("A cube", FOUR, "A", "B"),  # trap: the article
    ("not B", FOUR, "B", None),  # trap
    ("The answer is cube", FOUR, "C", "B"),  # trap: no word end
    ("the answer is about the middle", FOUR, "A", None),  # trap
    ("11", {"A": "1", "B": "11"}, None, "B"),  # trap: 1 is inside 11
    ("It looks like the star, which stands to the left of all else", FOUR, None, "A"),  # trap: longer than the options
    ("'B'", FOUR, None, "B"),  # trap: quotes
    ("b", FOUR, None, "B"),  # trap: lower case
    ("答案是B", FOUR, None, "B"),  # trap: Chinese before a letter
    ("B。", FOUR, None, "B"),  # trap: the Chinese full stop
    ("The answer is a cube", FOUR, "A", "B"),  # trap: the article
    ("The answer is A or B", FOUR, "A", None),  # trap: the first of two
    ("B\n\n\n", FOUR, "B", "B"),
    ("\tB\t", FOUR, "B", "B"),
    ("Z", FOUR, "Z", None),
    (LONG + "B", FOUR, "B", None),
    ("B " + LONG, FOUR, None, None),
    ("Failed to obtain answer via API.", FOUR, None, None),
    ("Ｂ", FOUR, None, None),
    ("B\x00", FOUR, None, None),
    ("[B]({A})", {"A": "x", "B": "y"}, None, None),
    ("Sorry, I can't help with images of people yet. B", FOUR, "Z", None),
    ("star", {"A": "star", "B": "star"}, None, None),  # equal options
    ("anything", {}, None, None),  # no options
    ("x", {"A": "", "B": "x"}, None, "B"),  # an empty option is inside everything
]


@pytest.mark.parametrize("reply, options, official, plain", CHOICES)
def test_choice(reply, options, official, plain):
    assert choices.read_choice(reply, options) == official
    assert choices.plain_choice(reply, options) == plain


YES_NO = [
    ("", "Unknown", "Unknown"),
    ("**Yes**", "Unknown", "Yes"),  # trap: asterisks
    ("Answer:No", "Unknown", "No"),  # trap: colons
    ("True", "Unknown", "Unknown"),
    ("yes,no", "Unknown", "Unknown"),
    ("No,no", "No", "No"),
    ("1,000 yes_", "Yes", "Yes"),
    ("no" + "." * 40, "Unknown", "No"),  # only 32 full stops are removed
    ("yes" + "." * 32, "Yes", "Yes"),
    (LONG + "yes", "Yes", "Yes"),
    ("yes\tno", "Unknown", "Unknown"),
]


@pytest.mark.parametrize("reply, official, plain", YES_NO)
def test_yes_and_no(reply, official, plain):
    assert yes_no.read_yes_no(reply) == official
    assert yes_no.plain_yes_no(reply) == plain


# (type, reply, answer, extracted, hit, error of the official scorer)
SIBENCH = [
    ("Number", "9**9**9", "9", -1.0, 0.0, ""),
    ("Number_Int", "9**9**9", "9", -1.0, 0, ""),
    ("Number", "(9**9)**(9**9)", "9", -1.0, 0.0, ""),
    ("Number", "1<<10**9", "9", -1.0, 0.0, ""),
    ("Number", "__import__('os').getcwd()", "9", -1.0, 0.0, ""),
    ("Number", "().__class__.__bases__", "9", -1.0, 0.0, ""),
    ("Number", "[0]*10**10", "9", -1.0, 0.0, ""),
    ("Number", "(" * 900 + "1" + ")" * 900, "1", -1.0, 0.0, ""),
    ("Number", "-" * 900 + "1", "1", 1, 1.0, ""),
    ("Number", "1" * 10_000, "9", -1.0, 0.0, ""),
    ("Number", "1e999", "9", float("inf"), 0.0, ""),
    ("Number", "nan", "9", -1.0, 0.0, ""),
    ("Number", "0/0", "9", -1.0, 0.0, ""),
    ("Number", "3,0", "3", (3, 0), None, "TypeError"),
    ("Number", "'3'", "3", "3", None, "TypeError"),
    ("Number", "10**400", "3", 10**400, None, "OverflowError"),
    ("Number_Int", "3,0", "3", (3, 0), 0, ""),
    ("Number_Int", "True", "1", True, 1, ""),
    ("Number_Int", "007", "7", -1.0, 0, ""),
    ("MCQ", "", "A", None, None, "IndexError"),
    ("MCQ", "A\n", "A", "A\n", 0, ""),
    ("MCQ", "CD", "C", "CD", 0, ""),
    ("MCQ", "((A)", "A", "(", 0, ""),
    ("YN", "Yeah", "yes", "yea", 0, ""),
    ("YN", "yes no", "yes", "yes", 1, ""),
    ("YN", " Yes", "yes", "ye", 0, ""),
]


@pytest.mark.parametrize("kind, reply, answer, extracted, hit, raises", SIBENCH)
def test_sibench(kind, reply, answer, extracted, hit, raises):
    started = time.process_time()
    assert sibench.score(kind, reply, answer) == (extracted, hit, raises)
    assert time.process_time() - started < 0.01


@pytest.mark.parametrize(
    "text, expected",
    [("8/2", 4.0), ("2*0.5", 1.0), ("1e1", 10.0), ("-(3)", -3), ("7//2", 3), ("2**10", 1024), ("[1, 2]", [1, 2])],
)
def test_arithmetic_is_that_of_python(text, expected):
    assert arithmetic.value(text) == expected == eval(text)  # noqa: S307  the texts stand above


@pytest.mark.parametrize(
    "text", ["min(1, 2)", "x", "lambda: 1", "1 if 1 else 2", "f'{1}'", "[i for i in (1,)]", "1; 2", ""]
)
def test_what_is_no_arithmetic_has_no_value(text):
    with pytest.raises(arithmetic.NoValueError):
        arithmetic.value(text)


FREE = {"question_type": "free_form", "choices": "", "answer_option": None}
# (answer_type, answer, reply, the toolkit's rules take it, ours)
MATHVISTA = [
    ("integer", "0", "0", False, True),  # trap: zero is falsy
    ("integer", "3", "3 cm", False, True),  # trap: units
    ("integer", "3", "1e999", False, False),
    ("float", "3.0", "nan", False, False),
    ("float", "3.0", "1e999", False, False),
    ("integer", "9", "9" * 5000, False, False),
    ("list", "[1, 2]", "[1,2]", False, True),  # trap: lists never match
    ("integer", "3", "__import__('os')", False, False),
]


@pytest.mark.parametrize("kind, answer, reply, official, plain", MATHVISTA)
def test_mathvista(kind, answer, reply, official, plain):
    row = {**FREE, "answer_type": kind, "answer": answer}
    assert mathvista.read_by_rules(row, reply).hit is official
    assert mathvista.plain_hit(row, reply) is plain


def test_mathvista_choices_are_data_not_code():
    row = {"question_type": "multi_choice", "choices": "__import__('os').listdir()", "answer_option": "A"}
    with pytest.raises(DataError, match="are no list"):
        mathvista.choices_of(row)


@pytest.mark.parametrize("text", ["1e999", "nan", "9**9**9", None, "x" * 10_000])
def test_mathvista_integers_that_are_none(text):
    assert mathvista.normalise(text, None, "free_form", "integer", None) is None


def test_bagels_rules_on_nothing():
    assert bagel.read_pope("") == "yes"
    assert bagel.mme_label("") == "other"
    with pytest.raises(IndexError):
        bagel.read_mmvp("", {"A": "x"})
    assert bagel.pope_scores(["no"], ["no"])["f1"] == 0.0  # the official script divides by zero


@pytest.mark.parametrize(
    "text, read",
    [("[" * 100_000, False), ('{"score": 1e999}', [float("inf")]), ("{" * 5000 + "}" * 5000, False), ("[1, 2, 3]", False),
     ("٣", [3])],
)  # fmt: skip
def test_viescore_texts(text, read):
    assert judged.read_viescore(text) == read


def test_columns_of_numbers_with_a_gap_become_floats_as_in_the_toolkit():
    assert tables.column_texts(["8", "", "7"]) == ["8.0", None, "7.0"]
    assert tables.column_texts(["8", "9"]) == ["8", "9"]
    assert tables.column_texts(["8", "None", "x"]) == ["8", None, "x"]
    assert tables.read_back_replies(["", "NA", "B"]) == ["nan", "nan", "B"]
