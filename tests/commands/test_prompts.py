"""Prompts that a model cannot read: unknown words are named, texts without a known one, empty and long ones refused."""

import re

import pytest

from sgt_jax.__main__ import COMMANDS
from sgt_jax.commands import prompts
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import ConfigError


def test_up_to_five_unknown_words_are_named_with_what_was_meant():
    text = "a rde xyzzy circle qux quux quuz corge grault"
    (warning,) = prompts.check_texts(Tokenizer.nano(), [text, "a red circle"])
    assert "'rde' (did you mean 'red'?), 'xyzzy', 'qux', 'quux', 'quuz' and 2 more" in warning
    assert prompts.check_texts(Tokenizer.nano(), ["a red circle"]) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a text is empty"),
        ("xyzzy quux", "knows no word of 'xyzzy quux'; it knows a, "),
        ("red " * 9, "reads 8 at most"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused(text, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        prompts.check_texts(Tokenizer.nano(), [text], 8)


def test_the_tokenizer_is_found_without_the_model(tmp_path):
    assert prompts.tokenizer_of("package:nano").words() == Tokenizer.nano().words()
    assert prompts.positions_of("package:nano") == 512
    (tmp_path / "config.json").write_text('{"data": {"tokenizer": "package:nano/tokenizer.json"}}')
    assert prompts.tokenizer_of(str(tmp_path)).size == Tokenizer.nano().size
    (tmp_path / "config.json").write_text("{}")
    assert prompts.tokenizer_of(str(tmp_path)) is None and prompts.positions_of(str(tmp_path)) == 0


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_names_every_default(name):
    import importlib

    parser = importlib.import_module(f"sgt_jax.commands.{COMMANDS[name][0]}").parser()
    text = " ".join(parser.format_help().split())
    for action in parser._actions:
        if action.option_strings and action.default not in (None, False, True, [], "", "==SUPPRESS=="):
            _, _, own = text.partition(f" {action.option_strings[-1]} {action.metavar or ''}".rstrip())
            assert "default" in action.help and "default" in own, (name, action.option_strings)
