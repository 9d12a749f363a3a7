"""What is committed under docs/results: whole, of the configs that stand here, and enough to rebuild the report."""

import importlib
import json
import shutil
from pathlib import Path

import pytest
from etils import epath

from sgt_jax import study, study_report, study_tables

ROOT = Path(__file__).parents[1]
FOLDERS = sorted((ROOT / "docs/results").glob("*/study.json"))


@pytest.fixture(scope="module", params=FOLDERS, ids=[path.parent.name for path in FOLDERS])
def committed(request, tmp_path_factory):
    """A copy of a folder of results, without its pictures: (folder, config)."""
    name = request.param.parent.name
    folder = tmp_path_factory.mktemp("results") / name
    shutil.copytree(request.param.parent, folder, ignore=shutil.ignore_patterns("pictures", study_report.REPORT))
    return epath.Path(folder), importlib.import_module(f"configs.study.{name}").get_config()


def test_every_run_is_there_and_of_the_settings_that_its_config_has(committed):
    folder, config = committed
    wanted = study.runs(config)
    assert sorted(record["arm"] + f"_{record['seed']}" for record in study.finished(folder)) == sorted(
        run.name for run in wanted
    )
    for run in wanted:
        record = json.loads((folder / study.RUNS / f"{run.name}.json").read_text())
        assert record["fingerprint"] == study.fingerprint(study.run_config(config, run)), run.name


def test_the_report_is_rebuilt_from_them(committed):
    folder, config = committed
    page = study_report.build(folder).read_text()
    found = study_tables.read(folder)
    claim = study_report.claim(found, {c.name: c for c in study_tables.columns(found)})
    assert claim in page and f"{len(config.seeds)} seeds" in claim and "Unfinished" not in page
    for arm in config.arms:
        assert f'<th scope="row">{arm}</th>' in page


def test_docs_quote_the_tables_that_the_results_give(committed):
    folder, _ = committed
    assert study_report.markdown(study_tables.read(folder)) in (ROOT / "docs/results.md").read_text()
