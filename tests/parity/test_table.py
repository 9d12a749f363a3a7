"""What `parity` prints: rows that were compared first, and apart from them what could not be compared."""

from sgt_jax.parity.checks import Check
from sgt_jax.parity.table import Report


def test_what_cannot_be_compared_stands_apart_and_does_not_count(capsys):
    report = Report(strict=False, absent="file absent")
    report.add("train", [Check("train", "loss", 1e-7, 1e-5, True)] + [
        Check("train", f"moment {i}", 0.0, 0.0, None, "not applicable: our mixture is exact") for i in range(10)
    ])  # fmt: skip
    report.add("vae", [Check("vae", "vae.npz", 0.0, 0.0, None, "file absent")])
    assert report.finish() == 0
    rows, apart = capsys.readouterr().out.split("not comparable (11)")
    assert "loss" in rows and "moment" not in rows and "vae.npz" not in rows
    assert "moment 7" in apart and "moment 8" not in apart and "and 2 more: --all lists them" in apart
    assert "vae.npz" in apart and "1 of 1 arrays agree; absent: vae" in apart


def test_an_absent_file_fails_where_all_are_wanted(capsys):
    report = Report(strict=True, absent="file absent")
    report.add("vae", [Check("vae", "vae.npz", 0.0, 0.0, None, "file absent")])
    assert report.finish() == 1 and "FAILS under --strict: file absent" in capsys.readouterr().out
