"""The command that rebuilds a report."""

import pytest

from sgt_jax.commands import report as command
from sgt_jax.reporting import run_page


def test_report_command_rebuilds_and_says_where(tmp_path, capsys):
    run_page.write_report(tmp_path, {"title": "Little"})
    (tmp_path / "report.html").unlink()
    command.main([str(tmp_path)])
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    assert "Little" in (tmp_path / "report.html").read_text()


def test_report_command_names_what_is_missing(tmp_path):
    with pytest.raises(SystemExit, match="no results to report"):
        command.main([str(tmp_path)])
