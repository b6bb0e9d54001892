"""`launch.py predict` on files of many lines, on bad lines, and with flags that do not fit."""

import dataclasses
import json
import re

import pytest

from research import cli
from research.data import jsonl
from research.evaluation import predictor
from research.training import checkpoint as saved
from research.training.inference import load_model
from tests.integration.test_cli import CONTEXT, call, flat


def test_ten_thousand_lines(tiny, tmp_path, capsys):
    """In their order, though they are packed by length; each as it is predicted alone."""
    texts = [" ".join(["Nam", "ite mol", "sen ale"][i % 3 :][: 1 + i % 2]) for i in range(10_000)]
    lines = "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts))
    (tmp_path / "in.jsonl").write_text(lines)
    checkpoint = tiny("sentiment").checkpoint
    flags = [f"--input={tmp_path}/in.jsonl", f"--output={tmp_path}/out.jsonl"]
    call("predict", f"--checkpoint={checkpoint}", *flags)
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in found] == list(range(10_000))
    kinds = sorted(set(texts))
    alone = predictor.predict(load_model(checkpoint), [{"text": text} for text in kinds])
    expected = {text: flat(p) for text, p in zip(kinds, alone, strict=True)}
    for line, text in zip(found, texts, strict=True):
        line.pop("id")
        assert flat(line) == expected[text]
    assert len({line["probabilities"]["good"] for line in found}) >= len(kinds) > 3
    shown = capsys.readouterr()
    assert "10,000 predictions written" in shown.out and "slot 10,000/10,000" in shown.err
    assert not list(tmp_path.glob("*.part"))


MALFORMED = ['{"text": "Nam"', '{"txt": "Nam"}', '["Nam"]', '{"text": 5}', '{"text": "\xff"}']


def test_malformed_lines_are_refused_or_skipped(tiny, tmp_path, capsys, monkeypatch):
    good = json.dumps({"text": "Nam ite."})
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [line for bad in MALFORMED for line in (good, "", bad)]
    file.write_bytes("\n".join([*lines, good]).encode("latin-1"))
    flags = [f"--checkpoint={tiny('sentiment').checkpoint}", f"--input={file}", f"--output={out}"]
    call("predict", *flags, "--skip_malformed")
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["id"] for line in found] == [f"in.jsonl:{n}" for n in (1, 4, 7, 10, 13, 16)]
    told = capsys.readouterr().err
    for number, what in ((3, "not JSON"), (6, "txt"), (9, "list"), (12, "'text'"), (15, "UTF-8")):
        assert re.search(rf"^skipped: {file}, line {number}: .*{what}", told, re.MULTILINE)
    assert "skipped 5 of 11 lines" in told

    def never(*_, **__):
        raise AssertionError("something is computed before every line was read")

    out.unlink()
    monkeypatch.setattr(predictor, "predict", never)
    for bad in MALFORMED:
        file.write_bytes("\n".join([good, good, bad]).encode("latin-1"))
        assert cli.main(["predict", *flags]) == 2
        assert capsys.readouterr().err.startswith(f"error: {file}, line 3: ")
    file.write_text("\n".join(MALFORMED[:3]))
    assert cli.main(["predict", *flags, "--skip_malformed"]) == 2
    assert f"{file}: not one line of it can be used" in capsys.readouterr().err
    assert not out.exists()


def test_what_has_the_right_fields_but_cannot_be_read_is_malformed(tiny, tmp_path, capsys):
    file = tmp_path / "in.jsonl"
    file.write_text(
        '{"text": "Nam [MASK] ite."}\n{"text": "Nam ite."}\n{"text": "[MASK] \\ud800"}\n'
    )
    out = tmp_path / "out.jsonl"
    flags = [f"--checkpoint={tiny('bert').checkpoint}", f"--input={file}", f"--output={out}"]
    call("predict", *flags, "--skip_malformed")
    shown = capsys.readouterr()
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["in.jsonl:1"]
    assert f"skipped: {file}, line 2: " in shown.err and "[MASK]" in shown.err
    assert f"skipped: {file}, line 3: 'text' holds half a character" in shown.err
    assert cli.main(["predict", *flags]) == 2
    assert capsys.readouterr().err.startswith(f"error: {file}, line 2: ")


def test_malformed_records_of_a_table_are_skipped(tiny, tmp_path, capsys):
    file = tmp_path / "in.csv"
    file.write_text('text,more\nNam,1\nite\nNam"x",2\n"ite",3\nsen,"4"5\nmol,6\n')
    checkpoint = f"--checkpoint={tiny('sentiment').checkpoint}"
    call("predict", checkpoint, f"--input={file}", "--skip_malformed")
    shown = capsys.readouterr()
    ids = [json.loads(line)["id"] for line in shown.out.splitlines()]
    assert ids == [f"in.csv:{n}" for n in (2, 4, 5, 7)]
    assert f"{file}, line 3: 1 fields" in shown.err and f"{file}, line 6: not CSV" in shown.err
    file.write_text('te"x"t,"more"x\nNam,1\n')
    assert cli.main(["predict", checkpoint, f"--input={file}", "--skip_malformed"]) == 2
    assert f"error: {file}, line 1: not CSV" in capsys.readouterr().err


def test_an_output_is_whole_or_not_there(tmp_path):
    def rows():
        yield {"id": 1}
        raise KeyboardInterrupt

    out = tmp_path / "out.jsonl"
    jsonl.write(str(out), [{"id": 0}])
    with pytest.raises(KeyboardInterrupt):
        jsonl.write(str(out), rows())
    assert out.read_text() == '{"id": 0}\n' and list(tmp_path.iterdir()) == [out]


def test_flags_that_do_not_fit_are_refused(tiny, tmp_path, capsys):
    file = tmp_path / "in.jsonl"
    file.write_text('{"text": "Nam"}\n')
    checkpoint = f"--checkpoint={tiny('sentiment').checkpoint}"
    for flags, message in (
        (["--text=Nam", "--skip_malformed"], "--skip_malformed is for the lines of a file"),
        (
            [f"--input={file}", f"--output={tmp_path}/../{tmp_path.name}/in.jsonl"],
            "would overwrite",
        ),
        (["--text=Nam", "--null_threshold=1"], "--null_threshold is for.*unanswerable=true"),
    ):
        assert cli.main(["predict", checkpoint, *flags]) == 2
        assert re.search(message, capsys.readouterr().err)
    assert file.read_text() == '{"text": "Nam"}\n'


def test_a_question_may_have_no_answer(tiny, tmp_path, capsys):
    """The threshold that `evaluate` names is used by `predict`, in place of the config's."""
    loaded = load_model(tiny("answers").checkpoint)
    values = json.loads(json.dumps(loaded.info.config))
    values["task"]["unanswerable"] = True
    folder = tmp_path / "run"
    saved.write_checkpoint(
        f"{folder}/checkpoints", 2, loaded.params, values, loaded.info.tokenizer_json, {}
    )
    call("evaluate", f"--checkpoint={folder}")
    metrics = json.loads((folder / "evaluation_validation.json").read_text())["metrics"]
    best = {"best_exact", "best_exact_thresh", "best_f1", "best_f1_thresh"}
    assert best <= set(metrics) and "f1/answerable" in metrics
    asked = ["predict", f"--checkpoint={folder}", "--question=Sen mol?", f"--context={CONTEXT}"]
    call(*asked, "--null_threshold=-1e9")
    assert "Sen mol? → no answer" in capsys.readouterr().out
    call(*asked, "--null_threshold=1e9", f"--output={tmp_path}/one.jsonl")
    found = json.loads((tmp_path / "one.jsonl").read_text())
    assert found["answer"] and found["answer"] in CONTEXT
    assert len(found["answers"]) == 5 and isinstance(found["null_score_difference"], float)
    for wrong in ("high", "nan"):
        assert cli.main([*asked, f"--null_threshold={wrong}"]) == 2
        assert f"--null_threshold={wrong} must be a number" in capsys.readouterr().err


def test_a_text_file_has_an_example_in_each_line(tiny, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("Nam ite.\n\nSen ale mol.\r\n")
    call("predict", f"--checkpoint={tiny('sentiment').checkpoint}", f"--input={tmp_path}/in.txt")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["id"] for line in found] == ["in.txt:1", "in.txt:3"]
    expected = predictor.predict(
        load_model(tiny("sentiment").checkpoint), [{"text": "Nam ite."}, {"text": "Sen ale mol."}]
    )
    assert [line["label"] for line in found] == [p["label"] for p in expected]


def test_a_table_like_the_one_trained_on_is_read_with_its_columns(
    tiny, tmp_path, capsys, monkeypatch
):
    (tmp_path / "in.csv").write_text("review,verdict\nNam ite.,good\n")
    flags = [f"--checkpoint={tiny('sentiment').checkpoint}", f"--input={tmp_path}/in.csv"]
    assert cli.main(["predict", *flags]) == 2
    assert "given: review, verdict" in capsys.readouterr().err

    def trained_on_reviews(path):
        loaded = load_model(path)
        source = dataclasses.replace(loaded.config.data.train, fields={"text": "review"})
        data = dataclasses.replace(loaded.config.data, train=source)
        return dataclasses.replace(loaded, config=dataclasses.replace(loaded.config, data=data))

    monkeypatch.setattr("research.commands.predict.load_model", trained_on_reviews)
    call("predict", *flags)
    assert json.loads(capsys.readouterr().out)["id"] == "in.csv:2"


def test_a_flag_without_its_partner_is_said_to_be_alone(tiny, capsys):
    flags = [f"--checkpoint={tiny('answers').checkpoint}", "--question=Sen mol?"]
    assert cli.main(["predict", *flags]) == 2
    assert '--question alone is not enough; a checkpoint of span_qa takes\n  --question="…" ' in (
        capsys.readouterr().err
    )
