"""Checkpoints that earlier versions of the code wrote are read, evaluated and resumed."""

import json
import tarfile

import pytest

from research import cli
from research.checkpoints import folder as checkpoint_folder
from research.checkpoints.reading import read_info
from research.errors import UserError
from research.evaluation import splits
from research.run.loaded import load_model
from tests.formats import make

HEADS = {"masked_lm", "next_sentence"}
NAMES = sorted(file.stem for file in make.FOLDER.glob("*.json"))


def unpack(name: str, place) -> None:
    with tarfile.open(make.FOLDER / f"{name}.tar.xz") as file:
        file.extractall(place, filter="data")


def test_there_is_one_of_each_format():
    assert NAMES == ["format1", "format1_store3", "unnumbered"]
    assert f"format{checkpoint_folder.FORMAT}" in NAMES, "make one: python -m tests.formats.make"


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_of_each_format_is_whole_and_loads(name, tmp_path):
    unpack(name, tmp_path)
    assert cli.main(["verify", str(tmp_path)]) == 0
    loaded = load_model(str(tmp_path))
    assert loaded.info.step == make.SAVED and set(loaded.params["heads"]) == HEADS


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_of_each_format_is_evaluated_and_resumed(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = make.write_run(tmp_path)
    unpack(name, tmp_path / "run" / "checkpoints")
    expected = json.loads((make.FOLDER / f"{name}.json").read_text())
    step = tmp_path / "run" / "checkpoints" / str(make.SAVED)
    found = make.evaluated(step)
    assert found == pytest.approx(expected["evaluated"], rel=1e-4)
    trained = cli.main(["train", f"--config={config}", "--workdir=run"])
    if "resumed" not in expected:  # token stores have other rows since, so it would be another run
        assert trained == 2
        assert "the data (or the tokenizer) has changed since" in capsys.readouterr().err
        return
    assert trained == 0
    resumed = make.after(tmp_path / "run")
    assert [line["step"] for line in resumed] == [3, 4, 4]
    for line, wanted in zip(resumed, expected["resumed"], strict=True):
        assert line == pytest.approx(wanted, rel=1e-4)


def test_a_later_format_and_a_key_of_a_later_version_are_named(tmp_path, monkeypatch):
    unpack("format1", tmp_path)
    folder = checkpoint_folder.absolute(str(tmp_path / str(make.SAVED)))
    info = checkpoint_folder.texts_in(folder)

    def rewrite(config: dict) -> None:
        texts = checkpoint_folder.texts_of(config, info.tokenizer_json, info.meta, info.arrays)
        for name, text in texts.items():
            (folder / "about" / name).write_text(text)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_folder, "FORMAT", 7)
        patch.setattr(checkpoint_folder.research, "__version__", "3.1")
        rewrite(info.config)
        assert read_info(str(folder)).step == make.SAVED
    with pytest.raises(UserError, match="newer version of the code, 3.1: .*format 7, .*up to 1"):
        read_info(str(folder))
    assert cli.main(["verify", str(folder)]) == 2
    rewrite(info.config | {"new_feature": 1})
    with pytest.raises(UserError, match="made by another version.*config.new_feature is not a key"):
        splits.load(str(folder), {})


def test_the_version_is_that_of_the_package():
    text = (make.FOLDER.parents[1] / "pyproject.toml").read_text()
    assert f'version = "{checkpoint_folder.research.__version__}"' in text
