"""Plans for TPU slices by the real compiler, where libtpu is installed (`make tpu-setup`)."""

import json
import os
import re
from pathlib import Path

import pytest

from tests.lab.planning import elsewhere

ROOT = Path(__file__).parents[3]
PYTHON = Path(os.environ.get("TPU_VENV", ROOT / ".venv-tpu")) / "bin" / "python"
TINY = "configs/pretrain/gpt.py:size=tiny"
PLAIN = ("--config.model.dropout=0.0", "--config.model.attention_dropout=0.0")
LONG_ROWS = ("--config.data.length=1024", "--config.model.max_positions=1024", *PLAIN)

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not PYTHON.exists(), reason="no libtpu: make tpu-setup"),
]


def plan(*flags: str, code: int = 0, config: str = TINY) -> str:
    return elsewhere.plan(PYTHON, config, *flags, code=code)


@pytest.mark.parametrize("topology", ["v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
def test_products_agree_with_the_formula(topology):
    text = plan(f"--topology={topology}", "--config.mesh.tensor=2", *PLAIN)
    share = float(re.search(r"TFLOP, ([\d.]+) of the formula", text)[1])
    assert share == pytest.approx(1, abs=0.05)
    assert "peak, decode step" in text and "mesh        data=2" in text


@pytest.mark.parametrize("mesh", ["data", "fsdp", "context", "tensor"])
def test_long_rows_take_splash_on_every_mesh(mesh):
    flags = ["--config.mesh.data=-1", f"--config.mesh.{mesh}=2"] if mesh != "data" else []
    text = plan("--topology=v5e:2x2", *LONG_ROWS, *flags)
    assert "attention   splash" in text
    calls = float(re.search(r"attention kernels +([\d,.]+) calls", text)[1].replace(",", ""))
    assert calls >= 2, "forward and backward, in the compiled program"
    share = float(re.search(r"TFLOP, ([\d.]+) of the formula", text)[1])
    assert 1 < share < 1.6, "with the kernel's products, and the loss's logits made twice"


def test_two_slices_have_copies():
    text = plan("--topology=v5e:2x2", "--slices=2", "--config.mesh.data=2", "--config.mesh.fsdp=4")
    assert "all-reduce over slices" in text and "2 x v5e:2x2" in text


def test_one_that_does_not_fit():
    text = plan("--topology=v5e:2x2", "--config.train.batch_size=2097152", *PLAIN, code=3)
    assert "DOES NOT FIT" in text
    needed = float(re.search(r"peak, train step +([\d.]+) of", text)[1])
    tried = re.findall(r"config.train.accumulation=\d+: [a-z ]+, ([\d.]+) GiB", text)
    assert tried and all(float(less) < needed / 2 for less in tried)
    assert re.search(r"config.train.accumulation=\d+: fits", text), text


# Every config that is shipped, on what it is meant for.
SHIPPED = {
    "pretrain/bert.py:size=base": ["--topology=v5e:4x4"],
    "pretrain/bert.py:size=large": ["--topology=v5e:4x4"],
    "pretrain/bert_cpu.py": ["--topology=cpu:1"],
    "pretrain/gpt_cpu.py": ["--topology=cpu:1"],
    "pretrain/gpt.py:size=small": ["--topology=v5e:4x4"],
    "pretrain/gpt.py:size=xl": [
        "--topology=v5e:16x16",
        "--config.mesh.data=4",
        "--config.mesh.fsdp=64",
    ],
    "pretrain/llama.py:size=135m": ["--topology=v5e:2x4"],
    "pretrain/llama.py:size=7b": ["--topology=v5p:4x4x4"],
    "pretrain/llama.py:size=7b,": ["--topology=v6e:16x16"],
    "pretrain/llama.py:size=70b": [
        "--topology=v5p:8x8x8",
        "--slices=2",
        "--config.mesh.data=2",
        "--config.mesh.fsdp=128",
        "--config.mesh.tensor=4",
    ],
    **{
        f"finetune/{task}.py": [
            "--topology=v5e:2x2",
            f"--config.init_from=research/pretrained/{start}",
        ]
        for task, start in (
            ("sentiment", "bert"),
            ("named_entities", "bert"),
            ("question_answering", "bert"),
            ("story", "gpt"),
            ("document_qa", "gpt"),
        )
    },
}
LONG = ("gpt.py:size=small", "gpt.py:size=xl", "llama")  # rows of 1,024 tokens and more


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_fits(name):
    text = plan(*SHIPPED[name], config=f"configs/{name}")
    assert "DOES NOT FIT" not in text
    assert ("attention   splash" in text) == any(long in name for long in LONG)
    assert ("attention kernels" in text) == any(long in name for long in LONG)
    assert "cannot print this program" not in text


ELSEWHERE = {
    "glue.py:task=sst2": [
        {"text": f"The film number {i} is good.", "label": ("negative", "positive")[i % 2]}
        for i in range(64)
    ],
    "squad.py:version=1": [
        {
            "context": f"The town number {i} lies by a river.",
            "question": "Where does it lie?",
            "answers": {
                "text": ["by a river"],
                "answer_start": [len(f"The town number {i} lies ")],
            },
        }
        for i in range(64)
    ],
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_reads_sets_of_the_network_fits(name, tmp_path):
    """Replaces the data set by a few lines; everything else is as shipped."""
    lines = [json.dumps(line | {"id": str(i)}) for i, line in enumerate(ELSEWHERE[name])]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    splits = [f"--config.data.{s}=files:{tmp_path}/data.jsonl" for s in ("train", "validation")]
    start = "--config.init_from=research/pretrained/bert"
    text = plan("--topology=v5e:2x2", start, *splits, config=f"configs/finetune/{name}")
    assert "DOES NOT FIT" not in text and "peak, train step" in text
