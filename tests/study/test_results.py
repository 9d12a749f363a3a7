"""What is committed under docs/results: whole, of the configs that stand here, and enough to rebuild the report."""

import functools
import importlib
import json
import re
import shutil

import numpy as np
import pytest
from etils import epath
from sgt_jax.configs.study import dots, headline

from sgt_jax.commands import mechanism
from sgt_jax.study import arms, decide, forecast, gates, records, registered, tables
from sgt_jax.study import page as study_page
from tests.support.paths import REPOSITORY as ROOT

RESULTS = ROOT / "docs/results"
# Studies of which docs/results/first_bed.md quotes the tables.
FINISHED = ("proxies", "ratio", "scaling", "convergence", "recipe", "baselines")
BEGUN = sorted(path.parent.name for path in RESULTS.glob("*/study.json"))


def config_of(name):
    return importlib.import_module(f"sgt_jax.configs.study.{name}").get_config()


# Each rebuilds for five to seven seconds: two studies in the default tier, the others in the slow one.
QUICK = ("convergence", "recipe")


@pytest.fixture(
    scope="module", params=[pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in FINISHED]
)
def committed(request, tmp_path_factory):
    """A copy of a folder of results, without its pictures: (folder, config)."""
    folder = tmp_path_factory.mktemp("results") / request.param
    shutil.copytree(RESULTS / request.param, folder, ignore=shutil.ignore_patterns("pictures", study_page.REPORT))
    return epath.Path(folder), config_of(request.param)


def once(function):
    """`function` of results, computed once for each of them."""
    known = {}

    def remembered(found, *rest):
        key = (id(found), *rest)
        if key not in known:
            known[key] = found, function(found, *rest)  # the results stay alive, so that ids stay their own
        return known[key][1]

    return remembered


@pytest.fixture(scope="module")
def read_once():
    """A folder is read once, and its columns, which take a bootstrap each, are computed once for page, table and test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "read_results", functools.cache(tables.read_results))
        for name in ("at_step", "columns"):
            patch.setattr(tables, name, once(getattr(tables, name)))
        yield


@pytest.mark.parametrize("name", BEGUN)
def test_results_are_of_the_settings_that_their_configs_have(name):
    config = config_of(name)
    known = {run.name: run for run in arms.runs(config)}
    for path in (RESULTS / name / records.RUNS).glob("*.json"):
        expected = arms.fingerprint(arms.run_config(config, known[path.stem]))
        assert json.loads(path.read_text())["fingerprint"] == expected, path.name


def test_every_run_is_there(committed):
    folder, config = committed
    assert sorted(p.stem for p in (folder / records.RUNS).glob("*.json")) == sorted(r.name for r in arms.runs(config))


@pytest.mark.usefixtures("read_once")
def test_the_report_is_rebuilt_from_them(committed):
    folder, config = committed
    page = study_page.build(folder).read_text()
    found = tables.read_results(folder)
    claim = study_page.claim(found, {c.name: c for c in tables.columns(found)})
    assert claim in page and f"{len(config.seeds)} seeds" in claim and "Unfinished" not in page
    for arm in config.arms:
        assert f'<th scope="row">{arm}</th>' in page


def test_docs_quote_what_the_gates_say_so_far():
    folder = epath.Path(RESULTS / "gates")
    found = tables.read_results(folder)
    gates.check_settings(found, config_of("gates"))
    gates.check_controls(found)
    text = study_page.markdown(found)
    assert (folder / "tables.md").read_text() == f"{text}\n", "report docs/results/gates --markdown"
    _, *parts = text.split("\n\n")  # the claim is for studies
    docs = (ROOT / "docs/results.md").read_text()
    assert parts and all(part in docs for part in parts)
    assert gates.markdown(found) in docs
    # What is said of single seeds.
    highest = {arm: gates.accuracies(found, arm, "highest") for arm in found.records}
    drawn = {
        arm: dict(zip(seeds, (f"{100 * row.mean():.1f}" for row in rows), strict=True))
        for arm in found.records
        for rows, seeds in [tables.items(found, arm, dict(evaluator="prompts", item="accuracy"))]
    }
    gains = [
        f"{highest[f'sgt{how}'][seed] - highest[f'sft{how}'][seed]:+.1f}"
        for how, seed in (("_no_replay", 100), ("", 100), ("_drawn", 100), ("_drawn", 101))
    ]
    words = " ".join(docs.split())
    assert "is {} points without replay (seed 100), {} with half a drawing (seed 100), and {} and {}".format(*gains) in words
    registration = " ".join((ROOT / "docs/studies.md").read_text().split())
    of = [drawn["base"][100], drawn["sft"][100], drawn["sft"][101], drawn["sft_drawn"][100], drawn["sft_drawn"][101]]
    assert "drawing fell from {} to {} and {} (GenEval-style".format(*of) in registration
    assert "it ends at {} and {}.".format(*of[3:]) in registration
    # The headline is about the kinds that passed.
    assert tuple(g.kind for g in gates.kind_gates(found) if not g.failed) == headline.KINDS


def quoted(c):
    """A contrast as documents quote it."""
    return f"{c.points:+.1f} points ({c.low:+.1f} to {c.high:+.1f})".replace("-", "\N{MINUS SIGN}")


def decided(name):
    """(study, its results, its registered contrasts, the sentences that they give)."""
    study, found = config_of(name), tables.read_results(epath.Path(RESULTS / name))
    contrasts = registered.contrasts(found)
    plan = study.registered.to_dict()
    assert {c.seeds for c in contrasts} == {registered.wanted_seeds(contrasts[0], plan)} == {12}
    return study, found, contrasts, registered.sentence(contrasts, plan).rstrip(".").split(". ")


def head_of(page):
    """What a page says before its first section, on one line."""
    return " ".join(page[: page.index("\n## ")].split())


def test_one_table_and_the_readme_say_what_the_seeds_decide():
    page, readme = ((ROOT / name).read_text() for name in ("docs/results.md", "README.md"))
    answer, told, rows = head_of(page), " ".join(readme.split()), []
    for name in ("headline", "dots_proxies"):
        study, _, contrasts, sentences = decided(name)
        first, *others = decide.markdown(study, epath.Path(RESULTS / name)).split("\n\n")
        rows += first.splitlines()[2:] if rows else first.splitlines()
        assert all(part in page for part in others if part.startswith("|"))
        assert all(sentence in answer and sentence in told for sentence in sentences)
        assert all(quoted(c) in answer or quoted(c).replace(" points", "") in answer for c in contrasts)
        assert quoted(contrasts[0]) in told
    assert "\n".join(rows) in page[: page.index("\n## ")]


@pytest.mark.parametrize("name", ["headline", "dots_proxies"])
def test_the_page_has_all_scores(name):
    text = study_page.markdown(tables.read_results(epath.Path(RESULTS / name)))
    assert (RESULTS / name / "tables.md").read_text() == f"{text}\n", f"report docs/results/{name} --markdown"
    _, *scores = text.split("\n\n")
    page = (ROOT / "docs/results.md").read_text()
    assert scores and all(part in page for part in scores)


def test_the_page_says_how_the_arms_and_seeds_differ():
    _, found, (first, _, _), _ = decided("headline")
    _, painted, _, _ = decided("dots_proxies")
    answer = head_of((ROOT / "docs/results.md").read_text())
    # What is told of the arms beside.
    score = {arm: registered.score(of, arm, headline.KINDS) for of in (painted, found) for arm in of.records}
    means = {arm: np.mean(list(by_seed.values())) for arm, by_seed in score.items()}
    told = (
        "{sft:.1f} % with SFT, {sgt:.1f} % with SGT, {sgt_strange:.1f} % with masks of another scene, "
        "{reconstruction:.1f} % with the photo painted, {edges:.1f} % with its edges, and {sft_long:.1f} %"
    )
    assert told.format(**means) in answer
    # Of how the seeds differ.
    assert "SFT from {:.0f} to {:.0f} %, SGT from {:.0f} to {:.0f}.".format(
        *(limit(score[arm].values()) for arm in ("sft", "sgt") for limit in (min, max))
    ) in answer
    spread = float(np.std(first.differences, ddof=1))
    assert f"vary by {spread:.1f} points" in answer and f"{spread:.1f}" == f"{dots.COST['sd'][-1]:.1f}"
    effect = forecast.smallest_effect(12, spread)
    assert f"see an effect of {effect:.0f} points with {100 * forecast.POWER:.0f} % power" in answer
    # Photo and edges against arms of the other study, which was not registered.
    words = " ".join((ROOT / "docs/results.md").read_text().split())
    beside = {"sft_long": "photo {} and edges {} from `sft_long`", "sgt_strange": "photo {} and edges {}. So"}
    for against, said in beside.items():
        numbers = []
        for arm in ("reconstruction", "edges"):
            differences = [value - score[against][seed] for seed, value in score[arm].items()]
            numbers.append(quoted(registered.paired("", arm, against, differences, 2.0)))
        assert said.format(*numbers) in words


def test_the_page_says_what_the_jigsaw_shows():
    study, folder = config_of("jigsaw"), epath.Path(RESULTS / "jigsaw")
    found, page = tables.read_results(folder), (ROOT / "docs/results.md").read_text()
    assert decide.markdown(study, folder) in page  # the gates
    assert not gates.kind_gates(found)[0].failed
    text = study_page.markdown(found)
    assert (folder / "tables.md").read_text() == f"{text}\n", "report docs/results/jigsaw --markdown"
    _, *scores = text.split("\n\n")
    assert scores and all(part in page for part in scores)
    known, words = {arm: gates.accuracies(found, arm, "jigsaw") for arm in study.arms}, " ".join(page.split())
    assert all(sorted(known[arm]) == list(study.seeds) for arm in ("sft", "sgt", "copied"))
    means = {arm: np.mean(list(by_seed.values())) for arm, by_seed in known.items()}
    told = "SFT tells {sft:.1f} %, SGT {sgt:.1f} %, and with the picture painted as it is shown {copied:.1f} %"
    assert told.format(**means) in words
    for against, called in (("sft", "SFT"), ("copied", "painting what is shown")):
        differences = [known["sgt"][seed] - known[against][seed] for seed in study.seeds]
        c = registered.paired("", "sgt", against, differences, 2.0)
        assert f"SGT against {called} {quoted(c)}" in words
    alone = known["sft"].values()
    assert f"SFT lies between {min(alone):.0f} and {max(alone):.0f} % by seed" in words


def test_the_page_says_what_differs_inside(tmp_path):
    first, *others = sorted((RESULTS / "headline/inside").iterdir())
    page = tmp_path / "inside.html"
    assert mechanism.main([str(first), "--out", str(page), "--runs", *map(str, others)]) == 0
    text = " ".join(re.sub(r"<[^>]+>", " ", page.read_text()).split())
    words = " ".join((ROOT / "docs/results.md").read_text().split())
    said = r"of (\d+) feature spaces .*? better after tuning in (\d+), worse in (\d+)"
    told = "Of {} feature spaces a linear rule separates the classes better after SGT in {} and worse in {}"
    assert told.format(*re.search(said, text).groups()) in words
    said = r"in (\d+) of the (\d+) layers the interval of the change over 10 runs excludes zero"
    assert "In {} of the {} layers the attention".format(*re.search(said, text).groups()) in words
    said = r"the probe of (.*?), layer 3, changed by (\S+) points \(95 % interval (\S+) to (\S+?)\)"
    assert "{} in the last layer, {} points ({} to {})".format(*re.search(said, text).groups()) in words
    assert all(f"docs/results/headline/inside/{folder.name}" in words for folder in (first, *others))


@pytest.mark.usefixtures("read_once")
def test_docs_quote_the_tables_that_the_results_give(committed):
    folder, _ = committed
    text = study_page.markdown(tables.read_results(folder))
    assert (RESULTS / folder.name / "tables.md").read_text() == f"{text}\n", (
        f"report docs/results/{folder.name} --markdown"
    )
    claim, _, scores, _, differences, *_ = text.split("\n\n")
    docs = (ROOT / "docs/results/first_bed.md").read_text()
    for part in (claim, scores, differences):
        assert part in docs
