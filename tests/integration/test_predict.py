"""`launch.py predict` on files of many lines, on bad lines, and with flags that do not fit."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from research import cli
from research.checkpoints import checkpoint as saved
from research.data import jsonl
from research.evaluation import predictor
from research.run.loaded import load_model
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
    assert "10,000 predictions written" in shown.out and "segment 10,000/10,000" in shown.err
    assert not list(tmp_path.glob("*.part*"))


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
    assert f"{file}: none of its lines can be used" in capsys.readouterr().err
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


def test_a_quotation_that_does_not_end_costs_its_own_line(tiny, tmp_path, capsys):
    lines = [f"Nam {word}.,good" for word in ("ite", "sen", "mol", "ale", "ite", "sen", "mol")]
    file = tmp_path / "in.csv"
    file.write_text("\n".join(["text,label", *lines[:3], '"Nam ite,good', *lines[3:]]) + "\n")
    flags = [f"--checkpoint={tiny('sentiment').checkpoint}", f"--input={file}"]
    call("predict", *flags, "--skip_malformed")
    shown = capsys.readouterr()
    ids = [json.loads(line)["id"] for line in shown.out.splitlines()]
    assert ids == [f"in.csv:{n}" for n in (2, 3, 4, 6, 7, 8, 9)]
    assert "line 5: not CSV: a quotation that it opens" in shown.err
    assert "swallows lines 6 to 9" in shown.err and "skipped 1 of 8 lines" in shown.err


@pytest.mark.parametrize(
    ("name", "content", "more"),
    [
        ("a.tsv", 'text\tlabel\r\n"Nam" ite.\tgood\r\nSen ale.\tbad\r\n', []),
        ("a.json", '[{"text": "\\"Nam\\" ite."},\n {"text": "Sen ale."}]', []),
        ("a.csv", 'sep=;\ntext;label\n"""Nam"" ite.";good\nSen ale.;bad\n', []),
        ("a.data", '{"text": "\\"Nam\\" ite."}\n{"text": "Sen ale."}\n', ["--format=jsonl"]),
    ],
)
def test_predictions_of_files_of_other_formats(tiny, tmp_path, capsys, name, content, more):
    (tmp_path / name).write_bytes(content.encode())
    loaded = load_model(tiny("sentiment").checkpoint)
    flags = [f"--checkpoint={tiny('sentiment').checkpoint}", f"--input={tmp_path}/{name}", *more]
    call("predict", *flags)
    found = [json.loads(line)["label"] for line in capsys.readouterr().out.splitlines()]
    expected = predictor.predict(loaded, [{"text": '"Nam" ite.'}, {"text": "Sen ale."}])
    assert found == [p["label"] for p in expected]
    if more:
        assert cli.main(["predict", *flags[:2]]) == 2
        assert cli.main(["predict", *flags[:2], "--format=jsnl"]) == 2
        assert "did you mean 'jsonl'" in capsys.readouterr().err


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
        (["--text=Nam", "--config.task.null_threshold=1"], "null_threshold is not a key"),
        (["--text=Nam", "--config.task.dropout=0"], "config.task.dropout belongs to the check"),
        (["--text=Nam", "--config.seed=1"], "config.seed belongs to the checkpoint"),
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
    call(*asked, "--config.task.null_threshold=-1e9")
    assert "Sen mol? → no answer" in capsys.readouterr().out
    call(*asked, "--config.task.null_threshold=1e9", f"--output={tmp_path}/one.jsonl")
    found = json.loads((tmp_path / "one.jsonl").read_text())
    assert found["answer"] and found["answer"] in CONTEXT
    assert len(found["answers"]) == 5 and isinstance(found["null_score_difference"], float)
    for wrong in ("high", "nan"):
        assert cli.main([*asked, f"--config.task.null_threshold={wrong}"]) == 2
        assert f"null_threshold={wrong!r} must be a number" in capsys.readouterr().err


def test_answers_are_decoded_as_the_config_or_the_command_says(tiny, tmp_path, capsys):
    checkpoint = tiny("document").checkpoint
    rows = [{"id": f"q{i}", "question": "Sen mol?", "context": CONTEXT} for i in range(3)]
    file = tmp_path / "in.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def texts(*flags):
        call("predict", f"--checkpoint={checkpoint}", f"--input={file}", *flags)
        return [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]

    decoding = "--config.task.decoding"
    greedy = texts()
    assert len(set(greedy)) == 1 and greedy == texts(f"{decoding}.top_k=1")
    drawn = texts(f"{decoding}.temperature=2")
    assert len(set(drawn)) > 1 and drawn == texts(f"{decoding}.temperature=2")
    assert drawn != texts(f"{decoding}.temperature=2", f"{decoding}.seed=1")
    cut = greedy[0][1:2]
    assert texts(f"{decoding}.stop=['{cut}']")[0] == greedy[0].partition(cut)[0].strip()
    few = texts("--config.task.max_new_tokens=2")
    assert len(few[0]) < len(greedy[0])
    assert texts(f"{decoding}.beams=4") != greedy
    for key, value, said in (
        ("top_p", "2", "config.task.decoding.top_p=2 must be"),
        ("beans", "4", "did you mean 'beams'?"),
    ):
        flags = [f"--checkpoint={checkpoint}", f"--input={file}", f"{decoding}.{key}={value}"]
        assert cli.main(["predict", *flags]) == 2
        assert said in capsys.readouterr().err


def test_a_text_file_has_an_example_in_each_line(tiny, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("Nam ite.\n\nSen ale mol.\r\n")
    call("predict", f"--checkpoint={tiny('sentiment').checkpoint}", f"--input={tmp_path}/in.txt")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["id"] for line in found] == ["in.txt:1", "in.txt:3"]
    expected = predictor.predict(
        load_model(tiny("sentiment").checkpoint), [{"text": "Nam ite."}, {"text": "Sen ale mol."}]
    )
    assert [line["label"] for line in found] == [p["label"] for p in expected]


def test_a_line_is_read_as_an_evaluation_reads_it(tiny, tmp_path, capsys):
    """Tokens before a raw text, lists in cells, columns of the training before our names."""
    rows = [
        {"id": 1, "tokens": ["Dr.", "A", "lives"], "text": "Dr. A lives", "tags": ["O"] * 3},
        {"id": 2, "text": "Dr. A"},
        {"id": 3, "tokens": []},
        {"id": 4, "text": " "},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    checkpoint = f"--checkpoint={tiny('entities').checkpoint}"
    call("predict", checkpoint, f"--input={tmp_path}/in.jsonl")
    shown = capsys.readouterr()
    found = [json.loads(line) for line in shown.out.splitlines()]
    assert [line["id"] for line in found] == [1, 2]
    assert found[0]["tokens"] == ["Dr.", "A", "lives"]
    assert f"left out: 1 row, no tokens ({tmp_path}/in.jsonl, line 3)" in shown.err
    assert f"left out: 1 row, text is empty ({tmp_path}/in.jsonl, line 4)" in shown.err
    (tmp_path / "in.csv").write_text('words\n"[""Dr."", ""A""]"\n')
    call("predict", checkpoint, f"--input={tmp_path}/in.csv", "--fields={'tokens': 'words'}")
    assert json.loads(capsys.readouterr().out)["tokens"] == ["Dr.", "A"]
    for fields, said in (("words", "must be a dict"), ("{'tokns': 'words'}", "mean 'tokens'")):
        asked = ["predict", checkpoint, f"--input={tmp_path}/in.csv", f"--fields={fields}"]
        assert cli.main(asked) == 2
        assert said in capsys.readouterr().err
    out = f"--output={tmp_path}/v.jsonl"
    (tmp_path / "r.csv").write_text("review\nNam ite.\n")
    call("embed", checkpoint, f"--input={tmp_path}/r.csv", out, "--fields={'text': 'review'}")
    assert len((tmp_path / "v.jsonl").read_text().splitlines()) == 1


def test_a_table_with_own_columns_and_labels(tiny, tmp_path, capsys):
    """Trained on, evaluated and predicted from, and a label that is not among them."""
    labels = ("bad", "mixed", "fine")
    lines = [f'"Nam ite, {word}.",{labels[i % 3]},{i}' for i, word in enumerate(["sen"] * 6)]
    table = tmp_path / "reviews.csv"
    table.write_text("\n".join(["review,verdict,stars", *lines]) + "\n")
    source = f"{{'name': 'files:{table}', 'fields': {{'text': 'review', 'label': 'verdict'}}}}"
    run = tmp_path / "run"
    flags = [f"--config={tiny('sentiment').config}", "--config.task.labels=auto"]
    flags += [f"--config.data.train={source}", f"--config.data.validation=files:{table}"]
    call("train", *flags, f"--workdir={run}")
    shown = capsys.readouterr()
    assert f"labels of files:{table}: bad, fine, mixed" in shown.out
    assert "macro recall" in shown.out  # of the task, while it trains
    assert json.loads((run / "config.json").read_text())["task"]["labels"] == sorted(labels)
    call("evaluate", f"--checkpoint={run}")
    assert re.search(r"predicted: +bad +fine +mixed\n +bad +", capsys.readouterr().out)
    call("predict", f"--checkpoint={run}", f"--input={table}")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["id"] for line in found] == [f"reviews.csv:{n}" for n in range(2, 8)]
    assert all(line["label"] in labels for line in found)

    flags[1] = f"--config.task.labels={labels!r}"
    table.write_text("review,verdict,stars\nNam ite.,fine,1\nNam sen.,fien,2\n")
    assert cli.main(["train", *flags, f"--workdir={tmp_path}/other"]) == 2
    message = capsys.readouterr().err
    for part in (f"{table}, line 3: example 'reviews.csv:3'", "'fien'", "did you mean 'fine'?"):
        assert part in message
    table.write_text("text,verdict\nNam ite.,fine\n")
    assert cli.main(["train", *flags, f"--workdir={tmp_path}/other"]) == 2
    message = capsys.readouterr().err
    assert str(table) in message and "'review'" in message and "text, verdict" in message
    assert not (tmp_path / "other").exists()
    call_wrong = ["predict", f"--checkpoint={tiny('sentiment').checkpoint}", f"--input={table}"]
    table.write_text("review,verdict\nNam ite.,good\n")
    assert cli.main(call_wrong) == 2
    assert "given: review, verdict" in capsys.readouterr().err


def test_a_flag_without_its_partner_is_said_to_be_alone(tiny, capsys):
    flags = [f"--checkpoint={tiny('answers').checkpoint}", "--question=Sen mol?"]
    assert cli.main(["predict", *flags]) == 2
    assert '--question alone is not enough; a checkpoint of span_qa takes\n  --question="…" ' in (
        capsys.readouterr().err
    )


class Piped(io.BytesIO):
    """Standard input that is a pipe, or a terminal."""

    def __init__(self, text: str | bytes, terminal: bool = False):
        super().__init__(text if isinstance(text, bytes) else text.encode())
        self.buffer, self._terminal = self, terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.smoke
def test_a_pipe_keeps_the_model_loaded(tiny, tmp_path):
    """Each line is answered before the next one is read; the second compiles nothing."""
    log = tmp_path / "log"
    with log.open("w") as errors, subprocess.Popen(
        [sys.executable, "launch.py", "predict", f"--checkpoint={tiny('bert').checkpoint}",
         "--input=-"],
        cwd=Path(cli.__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=errors, text=True, env=os.environ | {"JAX_LOG_COMPILES": "1"},
    ) as process:  # fmt: skip

        def answer(line: str) -> dict:
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        first = answer("Nam [MASK] ite.")
        before = log.read_text()
        second = answer('{"id": "two", "text": "Sen [MASK] ale [MASK] mol."}')
        after = log.read_text().removeprefix(before)
        process.stdin.close()
    assert process.returncode == 0 and "Compiling" in before and "Compiling" not in after
    assert (first["id"], second["id"]) == ("stdin:1", "two")
    assert [len(line["masks"]) for line in (first, second)] == [1, 2]


def test_lines_of_standard_input_are_as_those_of_a_file(tiny, tmp_path, capsys, monkeypatch):
    lines = b'Nam ite.\r\n\n{"text_a": "Nam", "text_b": "Sen"}\n{"txt": 1}\n\xff\n{"text\nSen.'
    monkeypatch.setattr(sys, "stdin", Piped(lines))
    command = ["predict", f"--checkpoint={tiny('sentiment').checkpoint}", "--input=-"]
    call(*command, "--skip_malformed")
    shown = capsys.readouterr()
    found = [json.loads(line) for line in shown.out.splitlines()]
    assert [line["id"] for line in found] == ["stdin:1", "stdin:3", "stdin:7"]
    for number, what in (
        (4, "takes text or text_a with text_b"),
        (5, "not UTF-8"),
        (6, "not JSON"),
    ):
        assert re.search(rf"^skipped: standard input, line {number}: .*{what}", shown.err, re.M)
    loaded = load_model(tiny("sentiment").checkpoint)
    expected = predictor.predict(loaded, [{"text": "Nam ite."}])[0]
    assert flat(expected) == flat({k: v for k, v in found[0].items() if k != "id"})
    monkeypatch.setattr(sys, "stdin", Piped("Nam.\n{"))
    assert cli.main(command) == 2
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 1
    assert shown.err.startswith("error: standard input, line 2: not JSON")
    assert cli.main([*command, f"--output={tmp_path}/out.jsonl"]) == 2
    assert "go to standard output" in capsys.readouterr().err


def test_a_terminal_is_asked_for_lines(tiny, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Piped('Nam ite.\n{"txt": 1}\nSen.\n', terminal=True))
    call("predict", f"--checkpoint={tiny('sentiment').checkpoint}")
    shown = capsys.readouterr()
    assert re.fullmatch(r"(\S.* → \w+ \(\d+%\)\n(  .*%\n){3}){2}", shown.out)
    assert "one example per line, text or text_a with text_b (JSON); Ctrl-D ends" in shown.err
    assert "skipped: standard input, line 2: " in shown.err


def test_a_text_may_come_from_standard_input(tiny, capsys, monkeypatch):
    answers = f"--checkpoint={tiny('answers').checkpoint}"
    monkeypatch.setattr(sys, "stdin", Piped(f"{CONTEXT}\n"))
    call("predict", answers, "--question=Sen mol?", "--context=-")
    piped = capsys.readouterr().out
    call("predict", answers, "--question=Sen mol?", f"--context={CONTEXT}")
    assert piped == capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", Piped("Nam ite.\n"))
    call("predict", f"--checkpoint={tiny('sentiment').checkpoint}", "-")
    assert capsys.readouterr().out.startswith("Nam ite. → ")
    for given, message in ((b"Nam", "only one can be standard input"), (b"\xff", "not UTF-8")):
        monkeypatch.setattr(sys, "stdin", Piped(given))
        both = ["--question=-"] if given == b"Nam" else ["--question=Sen?"]
        assert cli.main(["predict", answers, *both, "--context=-"]) == 2
        assert message in capsys.readouterr().err
