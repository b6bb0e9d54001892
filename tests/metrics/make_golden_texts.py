r"""Makes golden_texts.json: random texts, and what rouge-score and sacrebleu make of them.

It needs those two, which nothing else here does:

    python3 -m venv /tmp/references
    /tmp/references/bin/pip install rouge-score==0.1.2 sacrebleu==2.6.0
    /tmp/references/bin/python -m tests.metrics.make_golden_texts \
        tests/metrics/golden_texts.json
"""

import json
import random
import sys

from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

PIECES = [
    "the", "The", "cat", "cat's", "sat", "on", "mat", "mats", "U.S.", "1,600.5", "3.", "-", "km",
    "well-known", "2019-20", "naïve", "日本", "don't", "&quot;", "&amp;lt;", "a,b", "x.y", ".5",
    "$3", "(so)", "[1]", "_", "<skipped>", "end-\nline", "\n", "\t", "`", "~", "!?", "…", "//",
    "5-4", "",
]  # fmt: skip


def main(path: str) -> None:
    draw = random.Random(0)
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    bleu = BLEU()

    def text(pieces: list[str], most: int) -> str:
        return draw.choice([" ", " ", "  ", ""]).join(draw.choices(pieces, k=draw.randint(0, most)))

    corpora = []
    for most, pieces in ((3, PIECES), (12, PIECES), (30, PIECES), (30, PIECES[:8]), (200, PIECES)):
        texts = []
        for _ in range(12):
            golds = [text(pieces, most) for _ in range(draw.randint(1, 3))]
            guess = text(pieces, most)
            if draw.random() < 0.6:  # something of a reference, so that long rows match
                kept = [word for word in draw.choice(golds).split(" ") if draw.random() < 0.8]
                guess = " ".join([*kept, guess])
            rouge = scorer.score_multi(golds, guess)["rougeL"].fmeasure
            texts.append({"golds": golds, "guess": guess, "rouge_l": rouge})
        references = [
            [t["golds"][i] if i < len(t["golds"]) else None for t in texts] for i in range(3)
        ]
        score = bleu.corpus_score([t["guess"] for t in texts], references).score
        alone = [
            bleu.corpus_score([t["guess"]], [[gold] for gold in t["golds"]]).score for t in texts
        ]
        corpora.append({"texts": texts, "bleu": score, "bleu_alone": alone})
    with open(path, "w") as file:
        json.dump(corpora, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
