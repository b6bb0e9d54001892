"""`launch.py generate`: what it prints, where, and what it refuses."""

import dataclasses
import io
import re
import sys
from pathlib import Path

import pytest

from research import cli, config
from research.checkpoints.checkpoint import write_checkpoint
from research.generation import decode
from research.generation.decoding import DecodingConfig
from research.objectives import make_objectives
from research.run.loaded import load_model
from tests import helpers


def make_checkpoint(kind: str, folder: Path) -> str:
    """A checkpoint with random weights, as a run of that kind writes it."""
    tokenizer = helpers.byte_pairs() if kind == "gpt" else helpers.word_pieces()
    made = helpers.run_config(kind, folder, steps=1)
    model = dataclasses.replace(made.model, vocab_size=tokenizer.vocab_size)
    made = dataclasses.replace(made, model=model)
    params = helpers.new_params(model, make_objectives(made.objective))
    values = config.to_values(made)
    write_checkpoint(str(folder / kind), 3, params, values, tokenizer.to_json(), {"metrics": {}})
    return str(folder / kind)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return make_checkpoint("gpt", tmp_path_factory.mktemp("verb"))


def test_the_verb_prints_continuations_and_speed(checkpoint, capsys):
    path = checkpoint
    prompt = helpers.words()[3]
    flags = [f"--checkpoint={path}", f"--prompt={prompt}", "--max_tokens=12", "--seed=4"]
    assert cli.main(["generate", *flags, "--samples=2"]) == 0
    out, err = capsys.readouterr()
    texts = [part.split("\n", 1)[1] for part in out.split("--- ")[1:]]
    assert len(texts) == 2 and texts[0] != texts[1]
    assert all(text.startswith(prompt) for text in texts)
    assert re.search(r"[\d,]+ tokens in [\d.]+ s: [\d,]+ tokens/s, the first after [\d,]+ ms", err)
    loaded = load_model(path)
    expected = decode.continue_texts(
        loaded.params, loaded.model, loaded.tokenizer, [prompt] * 2, max_tokens=12,
        decoding=DecodingConfig(temperature=0.8, seed=4),
    )  # fmt: skip
    assert texts == [f"{prompt}{new}\n" for new in expected]


class Terminal(io.StringIO):
    """What is written to it, piece by piece."""

    def __init__(self):
        super().__init__()
        self.pieces: list[str] = []

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return len(text)


def test_a_terminal_shows_the_text_while_it_is_made(checkpoint, monkeypatch, capsys):
    flags = [f"--checkpoint={checkpoint}", "--prompt=nam", "--max_tokens=12", "--seed=4"]
    assert cli.main(["generate", *flags]) == 0
    piped = capsys.readouterr().out
    stop = piped[8]
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert cli.main(["generate", *flags]) == 0
    shown = [piece for piece in terminal.pieces if piece]
    assert "".join(shown) == piped and shown[0] == "nam" and len(shown) > 3
    terminal.pieces.clear()
    assert cli.main(["generate", *flags, f"--stop={stop}", "--stop=☃"]) == 0
    assert "".join(terminal.pieces) == "nam" + piped[3:].partition(stop)[0] + "\n"
    terminal.pieces.clear()
    assert cli.main(["generate", *flags, "--samples=2"]) == 0
    assert "--- 2 of 2" in "".join(terminal.pieces)


def test_beams_and_a_stop_string(checkpoint, capsys):
    flags = [f"--checkpoint={checkpoint}", "--prompt=nam", "--max_tokens=12", "--beams=3"]
    assert cli.main(["generate", *flags, "--length_penalty=2"]) == 0
    out = capsys.readouterr().out
    loaded = load_model(checkpoint)
    (expected,) = decode.continue_texts(
        loaded.params, loaded.model, loaded.tokenizer, ["nam"], max_tokens=12,
        decoding=DecodingConfig(beams=3, length_penalty=2.0),
    )  # fmt: skip
    assert out == f"nam{expected}\n"
    assert cli.main(["generate", *flags, "--length_penalty=2", f"--stop={expected[4]}"]) == 0
    cut = expected.partition(expected[4])[0]
    assert capsys.readouterr().out == f"nam{cut}\n"


def test_an_encoder_is_refused_with_what_it_can_do(tmp_path, capsys):
    path = make_checkpoint("bert", tmp_path)
    assert cli.main(["generate", f"--checkpoint={path}", "--prompt=a"]) == 2
    err = capsys.readouterr().err
    assert "masked_lm and next_sentence" in err and "does not continue text" in err
    assert "predict" in err and "[MASK]" in err and "--text_b" in err


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--max_tokens=many", "--max_tokens=many must be a whole number of at least 1"),
        ("--samples=0", "--samples=0 must be a whole number of at least 1"),
        ("--temperature=warm", "--temperature=warm must be a number of at least 0"),
        ("--top_p=1.5", "--top_p=1.5 must be a number in (0, 1]"),
        ("--seed=-1", "--seed=-1 must be a whole number from 0 to 4294967295"),
        ("--top_k=3", "no checkpoint in"),
        ("--min_p=1.5", "--min_p=1.5 must be a number from 0 to 1"),
        ("--min_p=few", "--min_p=few must be a number from 0 to 1"),
        ("--repetition_penalty=0", "--repetition_penalty=0 must be a number above 0"),
        ("--repetition_penalty=nan", "repetition_penalty=nan"),
        ("--beams=0", "--beams=0 must be a whole number from 1 to 1024"),
        ("--beams=4", "no checkpoint in"),
        ("--beams=4 --temperature=0", "no checkpoint in"),
        ("--beams=4 --temperature=0.8", "beams=4 and temperature=0.8"),
        ("--beams=4 --top_p=0.9", "beams=4 and top_p=0.9"),
        ("--beams=4 --min_p=0.1", "beams=4 and min_p=0.1"),
        ("--beams=4 --samples=2", "--beams=4 finds one text, so --samples=2"),
        ("--beams=4 --length_penalty=long", "--length_penalty=long must be a number"),
        ("--beams=4 --length_penalty=99", "--length_penalty=99 must be a number from -10 to 10"),
        ("--length_penalty=2", "--length_penalty=2 compares the texts of a beam search"),
        ("--stop=", "--stop='' is empty"),
        ("--stop=a --stop=", "--stop='' is empty"),
    ],
)
def test_a_wrong_flag_is_named(flag, said, tmp_path, capsys):
    flags = [f"--checkpoint={tmp_path}", "--prompt=a", *flag.split()]
    assert cli.main(["generate", *flags]) == 2
    assert said in capsys.readouterr().err
