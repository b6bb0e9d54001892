"""Plans for GPUs by XLA's own compiler for them, where it is installed (`make gpu-plan-setup`)."""

import os
import re
from pathlib import Path

import pytest

from tests.lab.planning import elsewhere

ROOT = Path(__file__).parents[3]
PYTHON = Path(os.environ.get("GPU_PLAN_VENV", ROOT / ".venv-gpu")) / "bin" / "python"
TINY = "configs/pretrain/gpt.py:size=tiny"
HALF = (
    *("--config.model.dtype=bfloat16", "--config.model.dropout=0.0"),
    "--config.model.attention_dropout=0.0",
)

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not PYTHON.exists(), reason="no CUDA plugin: make gpu-plan-setup"),
]


def plan(*flags: str, code: int = 0, config: str = TINY) -> str:
    return elsewhere.plan(PYTHON, config, *flags, code=code)


@pytest.mark.parametrize("card", ["a100", "h100", "h200", "b200"])
def test_products_agree_with_the_formula(card):
    text = plan(f"--topology={card}:8", "--config.mesh.tensor=2", "--config.model.dropout=0.0")
    share = float(re.search(r"TFLOP, ([\d.]+) of the formula", text)[1])
    assert share == pytest.approx(1, abs=0.05)
    assert "attention   xla" in text and "peak, decode step" in text


@pytest.mark.parametrize("mesh", [[], ["--config.mesh.tensor=2", "--config.mesh.fsdp=2"]])
def test_rows_in_half_precision_take_the_fused_kernel(mesh):
    text = plan("--topology=h100:8", *HALF, *mesh)
    assert "attention   cudnn" in text
    calls = float(re.search(r"attention kernels +([\d,.]+) calls", text)[1].replace(",", ""))
    assert calls >= 2, "forward and backward"


def test_machines_talk_over_the_network():
    text = plan("--topology=h100:8x2", "--config.mesh.data=2", "--config.mesh.fsdp=8")
    assert re.search(r"all-reduce over data, network +[\d.]+ GB", text), text
    assert re.search(r"all-gather over fsdp +[\d.]+ GB", text), text


def test_one_that_does_not_fit():
    text = plan("--topology=h100:2", "--config.train.batch_size=4194304", code=3)
    assert "DOES NOT FIT" in text
    assert re.search(r"config.train.accumulation=\d+: fits", text), text


# Every config that is shipped for accelerators, on what it is meant for.
SHIPPED = {
    "pretrain/bert.py:size=base": ["--topology=h100:8"],
    "pretrain/bert.py:size=large": ["--topology=h100:8", "--config.mesh.fsdp=8"],
    "pretrain/gpt.py:size=small": ["--topology=h100:8"],
    "pretrain/gpt.py:size=xl": ["--topology=h100:8x4", "--config.mesh.fsdp=32"],
    "pretrain/llama.py:size=135m": ["--topology=a100:8"],
    "pretrain/llama.py:size=7b": ["--topology=h100:8x16", "--config.mesh.fsdp=128"],
    "finetune/sentiment.py": ["--topology=h100:1", "--config.init_from=research/pretrained/bert"],
    "finetune/document_qa.py": ["--topology=h100:1", "--config.init_from=research/pretrained/gpt"],
}


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_fits(name):
    text = plan(*SHIPPED[name], config=f"configs/{name}")
    assert "DOES NOT FIT" not in text
    half_without_dropout = name.startswith(("pretrain/gpt", "pretrain/llama"))
    assert ("attention   cudnn" in text) == half_without_dropout
