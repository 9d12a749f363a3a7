"""Every spec and ingest command in docs/data.md names a type and options that there are, and no type is left unsaid."""

import importlib
import inspect
import re
import shlex

import pytest

from sgt_jax.data.sources import PIECE, SOURCES
from tests.support.paths import REPOSITORY

TEXT = (REPOSITORY / "docs" / "data.md").read_text()


def specs():
    """(type, option names) of all `dict(type=...)` and `ingest type=...` in the page."""
    for inner in re.findall(r'dict\((type="\w+".*)\)', TEXT):
        fields = eval(f"dict({inner})")  # our own page
        yield fields.pop("type"), set(fields)
    for line in re.findall(r"sgt_jax ingest (type=.*)", TEXT):
        fields = dict(word.split("=", 1) for word in shlex.split(line) if re.match(r"\w+=", word))
        yield fields.pop("type"), set(fields)


@pytest.mark.parametrize(("kind", "options"), list(specs()))
def test_specs_of_the_page_fit_the_sources(kind, options):
    module, name = SOURCES[kind]
    known = inspect.signature(getattr(importlib.import_module(f"sgt_jax.data.sources.{module}"), name)).parameters
    roles = set(importlib.import_module("sgt_jax.data.sources.tfds_records").ROLES) if kind == "tfds" else set()
    assert options <= set(known) | roles | set(PIECE)


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_the_page_shows_every_type(kind):
    assert kind in {shown for shown, _ in specs()}
