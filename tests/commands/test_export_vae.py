"""export-vae takes the run of an autoencoder, and says what else to do with any other."""

import json

from sgt_jax.commands import export_vae
from sgt_jax.errors import guarded
from tests.support import tiny_experiment


def test_a_run_of_a_whole_model_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(tiny_experiment.config().to_dict(), default=str))
    assert guarded(lambda: export_vae.main([str(tmp_path), str(tmp_path / "out")])) == 1
    assert "trained more than an autoencoder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
