"""The extras that documents name can be installed: pip resolves each, and downloads nothing but metadata."""

import configparser
import importlib.machinery
import importlib.util
import inspect
import re
import subprocess
import sys

import pytest

from tests.support.paths import REPOSITORY

EXTRAS = ("tpu", "cuda13", "cuda12")


def wanted(extra: str) -> list[str]:
    found = configparser.ConfigParser(comment_prefixes=("#",))
    found.read(REPOSITORY / "setup.cfg")
    return found["options.extras_require"][extra].split("\n")[1:]


def test_images_and_workflow_install_extras_that_exist_and_call_what_is_there():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    workflow = REPOSITORY / ".github/workflows/ci.yml"
    for path in (*(REPOSITORY / "docker").glob("*.Dockerfile"), workflow):
        text = path.read_text()
        extras = re.findall(r"pip install .*'\.\[(\w+)\]'", text)
        assert extras and set(extras) <= set(setup["options.extras_require"]), path
        if path != workflow:
            known = {"FROM", "WORKDIR", "COPY", "RUN", "CMD"}
            assert {line.split()[0] for line in text.splitlines() if line and not line.startswith("#")} <= known
            assert "Not built by us" in text
    called = re.findall(r"run: (?:python )?(\.ci/\w+)", workflow.read_text())
    assert called == [".ci/run", ".ci/site"] and all((REPOSITORY / name).stat().st_mode & 0o100 for name in called)


@pytest.fixture(scope="module")
def site():
    """The script .ci/site as a module."""
    loader = importlib.machinery.SourceFileLoader("site_of_ci", str(REPOSITORY / ".ci/site"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("site_of_ci", loader))
    loader.exec_module(module)
    return module


def test_the_api_pages_show_what_is_there_and_documented(site):
    for _, names in site.API.values():
        for name in names:
            module, _, what = name.rpartition(".")
            assert inspect.getdoc(getattr(importlib.import_module(f"sgt_jax.{module}"), what)), name
    assert "mkdocs-material" in " ".join(site.needs()) and not any("jax" in need for need in site.needs())


def test_every_link_of_the_site_leads_to_a_page(site, tmp_path):
    """As `mkdocs build --strict` checks, which CI runs with the extra [docs]."""
    pages = site.prepare(tmp_path)
    assert len(pages) > 20 and (tmp_path / "pages/index.md").exists()
    for page in pages:
        links = re.findall(r'(?:\]\(|src=")([^)\s"#]+)', page.read_text())
        gone = [link for link in links if "://" not in link and not (page.parent / link).exists()]
        assert gone == [], page
    named = re.findall(r"(\S+\.md)$", (tmp_path / "mkdocs.yml").read_text(), re.MULTILINE)
    assert len(named) > 15 and all((tmp_path / "pages" / name).exists() for name in named)


@pytest.mark.slow  # asks the package index
@pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="needs pip")
@pytest.mark.parametrize("extra", EXTRAS)
def test_pip_resolves_an_extra(extra):
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--ignore-installed",
        "--only-binary=:all:",
        "-q",
        "--report=-",
    ]
    done = subprocess.run([*command, *wanted(extra)], capture_output=True, text=True, timeout=300)
    if re.search("connection|Temporary failure|timed out", done.stderr, re.IGNORECASE) and done.returncode:
        pytest.skip("no package index")
    assert done.returncode == 0, done.stderr[-1000:]
    plugin = {"tpu": '"libtpu"', "cuda13": "jax-cuda13-plugin", "cuda12": "jax-cuda12-plugin"}[extra]
    assert plugin in done.stdout
