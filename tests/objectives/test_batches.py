"""Pre-training batches as a function of (seed, step)."""

import json
import shutil
import threading
import time
from collections import Counter

import numpy as np
import pytest
import tokenizers as library

from research.data import checksums, jsonl, plan, store
from research.data.block import write as write_block
from research.data.config import DataConfig, TokenizerConfig
from research.data.sources import SourceConfig
from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.objectives import ObjectivesConfig, make_objectives
from research.objectives import batches as batches_of_rows
from research.objectives.batches import PretrainingBatches, fill
from research.objectives.masked_lm import MaskedLMConfig
from research.objectives.sentence_pairs import SentencePairsConfig
from research.run import corpus
from tests import helpers
from tests.convert import folders

MASKED = ObjectivesConfig(MaskedLMConfig())
OBJECTIVES = {
    "masked_lm": MASKED,
    "masked_lm+nsp": helpers.MASKED_AND_NEXT,
    "nsp": ObjectivesConfig(next_sentence=SentencePairsConfig()),
    "causal_lm": helpers.CAUSAL,
}
each_objective = pytest.mark.parametrize("name", OBJECTIVES)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Stores of several small blocks, with word pieces and with byte pairs."""
    folder = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "BLOCK_BYTES", 800)
        return {
            causal: helpers.make_store(folder, tokens)
            for causal, tokens in ((False, helpers.word_pieces()), (True, helpers.byte_pairs()))
        }


def make(stores, name: str, **changes) -> PretrainingBatches:
    made = stores[name == "causal_lm"]
    assert made.blocks >= 3
    return helpers.batches(made, OBJECTIVES[name], **changes)


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.smoke
@each_objective
def test_a_batch_depends_on_seed_and_step_alone(stores, name):
    data, fresh = make(stores, name), make(stores, name)
    last = data.epoch_batches(0) + 2  # in the second epoch
    in_order = [data.batch(step) for step in range(last + 1)]
    for step in (last, 3, 0, last, 1):
        assert same(fresh.batch(step), in_order[step])
    assert not same(in_order[0], in_order[1])
    other = make(stores, name, seed=1)
    assert not same(other.batch(0), in_order[0])


@each_objective
def test_parts_of_a_batch_are_the_rows_of_the_whole(stores, name):
    data = make(stores, name)
    for step in (0, data.epoch_batches(0) - 1, data.epoch_batches(0)):
        whole = data.batch(step)
        alone = make(stores, name)
        parts = [alone.batch(step, *span) for span in ((5, 8), (0, 2), (2, 5))]
        joined = {k: np.concatenate([parts[i][k] for i in (1, 2, 0)]) for k in whole}
        assert same(joined, whole)
        assert whole["rows"].tolist() == list(range(8))


@each_objective
def test_an_epoch_has_each_planned_segment_once_and_fills_the_last_batch(stores, name):
    data = make(stores, name)
    blocks = range(data.store.blocks)
    for epoch in (0, 1):
        first = sum(data.epoch_batches(e) for e in range(epoch))
        assert data.locate(first) == (epoch, 0)
        assert data.locate(first + data.epoch_batches(epoch) - 1)[0] == epoch
        batches = [data.batch(first + i) for i in range(data.epoch_batches(epoch))]
        planned = sum(len(data.block_plan(epoch, b)) for b in blocks)
        assert sum(int(b["segment_weights"].sum()) for b in batches) == planned
        for batch in batches:
            assert ((batch["segments"].max(1) > 0) == (batch["segment_weights"].sum(1) > 0)).all()
        filled = data.epoch_rows(epoch) - (len(batches) - 1) * data.rows
        last = batches[-1]
        assert 0 < filled <= data.rows
        for weights in ("segment_weights", "predict_weights", "target_weights"):
            if weights in last:
                assert last[weights][:filled].any(1).all() and not last[weights][filled:].any()
        assert (last["tokens"][filled:] == data.tokenizer.pad).all()


def test_every_token_is_a_causal_target_once_an_epoch(stores):
    data = make(stores, "causal_lm")
    blocks = [data.store.block(b) for b in range(data.store.blocks)]
    expected = Counter(int(t) for block in blocks for t in block.tokens)
    expected[data.tokenizer.eos] = sum(len(block.lengths) for block in blocks)
    found = Counter()
    for step in range(data.epoch_batches(0)):
        batch = data.batch(step)
        found.update(batch["targets"][batch["target_weights"] > 0].tolist())
        real = batch["segments"] > 0
        assert np.array_equal(batch["target_weights"] > 0, real)
        # Within a segment the target is the next input.
        follows = real[:, 1:] & (batch["segments"][:, 1:] == batch["segments"][:, :-1])
        assert np.array_equal(batch["targets"][:, :-1][follows], batch["tokens"][:, 1:][follows])
        sizes = data.tokenizer.byte_lengths()[batch["targets"]]
        assert np.array_equal(batch["target_bytes"], sizes)
    assert found == expected


def test_a_segment_has_special_tokens_types_and_its_label(stores):
    """A segment of two texts is a pair; a segment of one text is not."""
    data, tokens = make(stores, "nsp"), helpers.word_pieces()
    plans = Counter()
    for step in range(data.epoch_batches(0)):
        batch = data.batch(step)
        for row, segment in zip(*np.nonzero(batch["segment_weights"]), strict=True):
            here = slice(batch["first"][row, segment], batch["last"][row, segment] + 1)
            ids, types = batch["tokens"][row, here], batch["token_types"][row, here]
            label = int(batch["random_next"][row, segment])
            assert ids[0] == tokens.cls and ids[-1] == tokens.sep
            separators = np.flatnonzero(ids == tokens.sep)
            assert len(separators) == (1 if label == plan.NO_PAIR else 2)
            assert types.tolist() == [0] * (separators[0] + 1) + [1] * (
                len(ids) - separators[0] - 1
            )
            assert batch["positions"][row, here].tolist() == list(range(len(ids)))
            plans[label] += 1
    drawn = np.concatenate([data.block_plan(0, b)["label"] for b in range(data.store.blocks)])
    assert plans == Counter(drawn.tolist()) and plans.keys() == {0, 1, plan.NO_PAIR}
    assert abs(plans[0] - plans[1]) <= data.store.blocks


def test_one_source_of_a_store_is_read_alone(tmp_path):
    """Pairs too, since a random sentence is always of the same source."""
    texts, draw = [[], []], np.random.default_rng(5)
    for number, name in enumerate("ab"):
        texts[number] = [helpers.document(draw, 6) for _ in range(9)]
        jsonl.write(str(tmp_path / f"{name}.jsonl"), ({"text": t} for t in texts[number]))
    corpora = tuple(SourceConfig(f"files:{tmp_path}/{name}.jsonl") for name in "ab")
    tokens = helpers.word_pieces()
    made = store.build(corpora, "train", 0.0, tokens, str(tmp_path / "cache"))
    for goal in (MASKED, helpers.MASKED_AND_NEXT):
        whole = helpers.batches(made, goal).block_plan(0, 0)
        for number in (0, 1):
            data = helpers.batches(made, goal, source=number)
            planned, block = data.block_plan(0, 0), made.block(0)
            assert set(block.sources[planned["doc"]]) == {number}
            assert len(set(planned["doc"])) == 9
            assert len(planned) < len(whole)
            assert same(data.batch(0), helpers.batches(made, goal, source=number).batch(0))


def clean(batch) -> np.ndarray:
    """The tokens of a batch with the masked ones put back."""
    tokens = batch["tokens"].copy()
    rows, places = np.nonzero(batch["predict_weights"])
    tokens[rows, batch["predict_positions"][rows, places]] = batch["predict_targets"][rows, places]
    return tokens


def test_masks_are_of_the_segment_of_the_epoch_and_of_the_seed(stores):
    data = make(stores, "masked_lm+nsp")
    special = sorted(data.tokenizer.special_ids)
    for step in range(data.epoch_batches(0)):
        batch = data.batch(step)
        real = batch["predict_weights"] > 0
        assert not np.isin(batch["predict_targets"][real], special).any()
        for row in np.flatnonzero(real.any(1)):
            owners = batch["segments"][row, batch["predict_positions"][row, real[row]]]
            for segment in np.unique(batch["segments"][row][batch["segments"][row] > 0]):
                n = int((batch["segments"][row] == segment).sum())
                assert (owners == segment).sum() == max(1, round(0.15 * n))
    assert np.array_equal(clean(data.batch(0)), clean(make(stores, "masked_lm+nsp").batch(0)))


def test_another_epoch_has_other_masks_on_the_same_segment(stores):
    data = make(stores, "masked_lm")
    planned = data.block_plan(0, 0)[0]
    segments = [data._segment(epoch, 0, 0, planned) for epoch in (0, 0, 1)]
    assert np.array_equal(segments[0].predict_positions, segments[1].predict_positions)
    assert np.array_equal(segments[0].tokens, segments[1].tokens)
    different = [
        not np.array_equal(
            data._segment(0, 0, i, p).predict_positions, data._segment(1, 0, i, p).predict_positions
        )
        for i, p in enumerate(data.block_plan(0, 0)[:20])
    ]
    assert sum(different) >= 18


def test_a_random_token_is_never_a_special_one(stores):
    data = make(stores, "masked_lm")
    special = data.tokenizer.special_ids - {data.tokenizer.mask}
    found = []
    for epoch in range(25):
        for index, planned in enumerate(data.block_plan(epoch, 0)):
            segment = data._segment(epoch, 0, index, planned)
            there = segment.tokens[segment.predict_positions]
            replaced = (there != data.tokenizer.mask) & (there != segment.predict_targets)
            found += there[replaced].tolist()
    assert len(found) > 150 and not special & set(found)
    assert data.tokenizer.mask not in data.tokenizer.ordinary


@each_objective
def test_another_epoch_has_another_plan(stores, name):
    data = make(stores, name)
    for block in range(data.store.blocks):
        assert not np.array_equal(data.block_plan(0, block), data.block_plan(1, block))


@each_objective
def test_a_block_is_planned_and_masked_without_the_others(tmp_path, name):
    """Two corpora share only their second block."""
    tokens = helpers.byte_pairs() if name == "causal_lm" else helpers.word_pieces()
    draw = np.random.default_rng(3)
    texts = [helpers.document(draw, 8) for _ in range(20)]
    changed = [text.replace("a", "u") for text in texts[:10]] + texts[10:]
    found = []
    for number, version in enumerate((texts, changed)):
        folder = tmp_path / f"store{number}"
        folder.mkdir()
        for b in range(2):
            write_block(folder / f"block_{b:05d}", version[b * 10 : b * 10 + 10], [0] * 10, tokens)
        (folder / "arrangement").mkdir()
        sizes = [sum(len(t.encode()) for t in version[b : b + 10]) for b in (0, 10)]
        np.save(folder / "arrangement" / "bytes.npy", sizes)
        made = store.Store(folder, "", {"blocks": 2, "paired_documents": 20})
        data = helpers.batches(made, OBJECTIVES[name])
        planned = data.block_plan(0, 1)
        found.append((data.block_plan(0, 0), planned, data._segment(0, 1, 0, planned[0])))
    (first, planned, segment), (other, again, same_segment) = found
    assert not np.array_equal(first, other)
    assert np.array_equal(planned, again)
    assert np.array_equal(segment.tokens, same_segment.tokens)


def test_the_order_of_rows_is_shuffled_across_the_blocks_of_a_window(stores):
    data = make(stores, "masked_lm")
    blocks = data._window(0, 0)[:, 0]
    assert len(np.unique(blocks)) == data.store.blocks
    changes = np.count_nonzero(np.diff(blocks))
    assert changes > 0.4 * len(blocks)
    straight = make(stores, "masked_lm", shuffle=False)
    assert (np.diff(straight._window(0, 0)[:, 0]) >= 0).all()


def test_windows_are_read_one_after_the_other(stores, monkeypatch):
    monkeypatch.setattr(batches_of_rows, "WINDOW", 2)
    data = make(stores, "masked_lm")
    windows = -(-data.store.blocks // 2)
    assert windows >= 2
    rows = np.concatenate([data._window(0, w) for w in range(windows)])
    refs = data._row_refs(0, 0, len(rows) + 3)
    assert refs[:-3] == [tuple(r) for r in rows.tolist()] and refs[-3:] == [None] * 3
    for start, end in ((5, 9), (len(rows) - 2, len(rows) + 2), (len(data._window(0, 0)) - 1,) * 2):
        assert data._row_refs(0, start, end) == (refs + [None])[start:end]


@pytest.mark.parametrize(
    ("objectives", "tokens", "role"),
    [
        (helpers.CAUSAL, helpers.word_pieces, "no eos token"),
        (MASKED, helpers.byte_pairs, "no cls token"),
    ],
)
def test_a_tokenizer_without_the_tokens_it_takes_is_an_error(stores, objectives, tokens, role):
    with pytest.raises(UserError, match=role):
        PretrainingBatches(stores[False], tokens(), make_objectives(objectives), 32, 4, 8, 0)


@pytest.mark.parametrize("name", ["masked_lm", "masked_lm+nsp", "causal_lm"])
def test_rows_of_real_text_are_full(tmp_path_factory, name):
    sources = (
        SourceConfig("bundled:corpus/factbook_background"),
        SourceConfig("bundled:corpus/moby_dick", take=40),
    )
    folder = tmp_path_factory.getbasetemp() / "real"
    data = DataConfig(corpus=sources, cache=str(folder))
    kind = "byte_bpe" if name == "causal_lm" else "wordpiece"
    tokens = corpus.make_tokenizer(TokenizerConfig(kind, 2000), data)
    made = store.build(sources, "train", 2.0, tokens, str(folder), quiet=True)
    for length in (64, 128, 512):
        rows = PretrainingBatches(made, tokens, make_objectives(OBJECTIVES[name]), length, 16, 8, 0)
        found = fill(rows)
        assert found["real_tokens"] >= 0.95, json.dumps({"length": length} | found)
        batches = [rows.batch(step) for step in range(3)]
        measured = np.mean([np.count_nonzero(b["segments"]) / b["segments"].size for b in batches])
        assert abs(measured - found["real_tokens"]) < 0.05


def test_whole_words_come_from_the_store(stores):
    words = ObjectivesConfig(MaskedLMConfig(rate=0.3, unit="word"))
    data = helpers.batches(stores[False], words)
    batch = data.batch(0)
    tokens, masked = clean(batch), np.zeros(batch["tokens"].shape, bool)
    rows, places = np.nonzero(batch["predict_weights"])
    masked[rows, batch["predict_positions"][rows, places]] = True
    continues = np.zeros(tokens.shape, bool)
    for row, at in np.argwhere(batch["segments"] > 0):
        continues[row, at] = data.tokenizer.token(tokens[row, at]).startswith("##")
    together = [masked[row, at] == masked[row, at - 1] for row, at in np.argwhere(continues) if at]
    assert len(together) > 30 and np.mean(together) > 0.9


def test_two_threads_may_ask_where_a_step_is(stores):
    data = make(stores, "masked_lm")
    plan = data.block_plan

    def block_plan(epoch, block):
        time.sleep(0.005)
        return plan(epoch, block)

    data.block_plan = block_plan
    last = 5 * make(stores, "masked_lm").epoch_batches(0)
    found = []
    threads = [threading.Thread(target=lambda: found.append(data.locate(last))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [make(stores, "masked_lm").locate(last)] * 4


@pytest.fixture
def narrow(monkeypatch):
    """Windows of two blocks, so that the small stores have several."""
    monkeypatch.setattr(batches_of_rows, "WINDOW", 2)


def planned(data: PretrainingBatches) -> list[tuple[int, int]]:
    """Records each (epoch, block) planned from now on."""
    noted, plan = [], data._block_plan
    data.block_plan = lambda epoch, block: noted.append((epoch, block)) or plan(epoch, block)
    return noted


def copied(stores, folder, name="masked_lm") -> store.Store:
    """A store of its own, with nothing counted yet."""
    made = stores[name == "causal_lm"]
    shutil.copytree(made.path, folder, ignore=shutil.ignore_patterns("rows"))
    return store.Store(folder, made.key, made.counts)


def test_the_first_batch_plans_the_first_window_alone(stores, narrow, tmp_path):
    data = helpers.batches(copied(stores, tmp_path / "s"), MASKED)
    assert data.store.blocks > 3
    noted = planned(data)
    data.batch(0)
    assert {block for _, block in noted} == set(data._order(0)[:2].tolist())


@each_objective
def test_batches_and_places_are_those_of_the_whole_plan(stores, narrow, tmp_path, name):
    """Against the rows of all windows, one after the other."""
    made = copied(stores, tmp_path / "s", name)
    data = helpers.batches(made, OBJECTIVES[name])
    step = 0
    for epoch in (0, 1, 2):
        windows = [data._window(epoch, w) for w in range(-(-made.blocks // 2))]
        rows = [(int(b), int(r)) for b, r in np.concatenate(windows)]
        assert data.epoch_rows(epoch) == len(rows)
        for batch in range(data.epoch_batches(epoch)):
            assert data.locate(step) == (epoch, batch)
            wanted = rows[batch * 8 : batch * 8 + 8]
            found = data._row_refs(epoch, batch * 8, batch * 8 + 8)
            assert found == wanted + [None] * (8 - len(wanted))
            step += 1


def test_a_resumed_run_plans_no_row_that_lies_before_it(stores, narrow, tmp_path):
    made = copied(stores, tmp_path / "s")
    first = helpers.batches(made, MASKED)
    step = first.epoch_batches(0) + first.epoch_batches(1) - 2  # late in the second epoch
    expected = first.batch(step)
    again = helpers.batches(made, MASKED)
    noted = planned(again)
    assert same(again.batch(step), expected)
    assert {epoch for epoch, _ in noted} == {1}
    assert len(set(noted)) <= 4  # of two windows at most
    # Counts of another seed or row length are others.
    for other in (helpers.batches(made, MASKED, seed=1), helpers.batches(made, MASKED, length=40)):
        noted = planned(other)
        other.locate(step)
        assert {0, 1} <= {epoch for epoch, _ in noted}


def test_counts_that_are_lost_or_broken_are_made_again(stores, narrow, tmp_path):
    made = copied(stores, tmp_path / "s")
    first = helpers.batches(made, MASKED)
    last = first.epoch_batches(0) - 1
    expected = first.batch(last)
    files = sorted((made.path / "rows").rglob("*.npy"))
    assert files
    for content in (b"", b"no array", files[0].read_bytes()[:-4]):
        files[0].write_bytes(content)
        assert same(helpers.batches(made, MASKED).batch(last), expected)


def test_batches_are_counted_no_further_than_asked(stores, narrow, tmp_path):
    data = helpers.batches(copied(stores, tmp_path / "s"), MASKED, rows=1)
    noted = planned(data)
    assert data.epoch_batches(0, most=3) == 3
    assert len(set(noted)) == 2
    whole = data.epoch_batches(0)
    assert data.epoch_batches(0, most=whole + 5) == whole == data.epoch_rows(0)
    assert data.locate(whole - 1) == (0, whole - 1) and data.locate(whole) == (1, 0)
    assert abs(data.about_epoch_batches() - whole) < 0.3 * whole


def test_fill_of_a_large_store_is_measured_in_a_sample(stores, monkeypatch):
    data = make(stores, "masked_lm")
    exact = fill(data)
    assert exact["rows"] == data.epoch_rows(0)
    monkeypatch.setattr(batches_of_rows, "SAMPLE", 3)
    noted = planned(data)
    found = fill(data)
    assert len(noted) == 3 and abs(found["rows"] - exact["rows"]) < 0.2 * exact["rows"]
    assert abs(found["real_tokens"] - exact["real_tokens"]) < 0.1


def test_counts_of_other_rows_are_an_error_that_names_them(stores, narrow, tmp_path):
    made = copied(stores, tmp_path / "s")
    helpers.batches(made, MASKED).epoch_batches(0)
    (file,) = (made.path / "rows").rglob("*.npy")
    rows = np.load(file)
    checksums.save(file, lambda part: np.save(part, rows + 1))
    with pytest.raises(UserError, match=f"{file.parent} has row counts of other data"):
        helpers.batches(made, MASKED).batch(0)


def test_damaged_counts_are_counted_again(stores, narrow, tmp_path, capsys):
    made = copied(stores, tmp_path / "s")
    right = helpers.batches(made, MASKED).epoch_rows(0)
    (file,) = (made.path / "rows").rglob("*.npy")
    whole = file.read_bytes()
    for damaged in (whole[:-4] + b"\1\0\0\0", whole[:20], b""):
        file.write_bytes(damaged)
        assert helpers.batches(made, MASKED).epoch_rows(0) == right
        assert file.read_bytes() == whole
        assert capsys.readouterr().err.count("rows are counted again") == 1


def test_a_split_without_a_pair_is_refused_at_once(stores):
    made = stores[False]
    lonely = store.Store(made.path, made.key, made.counts | {"paired_documents": 0})
    with pytest.raises(UserError, match="two documents of two sentences or more"):
        helpers.batches(lonely, helpers.MASKED_AND_NEXT)
    helpers.batches(lonely, MASKED)
    assert 0 < made.counts["paired_documents"] <= made.counts["documents"]


# A tokenizer with a frame of its own


def own_frame(tmp_path, tokenizer, texts, objectives, **settings):
    """All batches of texts read with a tokenizer.json that has its own frame."""
    roles = {name.removesuffix("_token"): token for name, token in settings.items()}
    tokens = Tokenizer(library.Tokenizer.from_str(json.dumps(tokenizer)), roles)
    rows = [{"id": str(i), "title": "", "text": text} for i, text in enumerate(texts)]
    source = SourceConfig(helpers._write(tmp_path / "texts.jsonl", rows))
    made = store.build((source,), "train", 0.0, tokens, str(tmp_path / "cache"), quiet=True)
    data = PretrainingBatches(made, tokens, make_objectives(objectives), 32, 4, rows=4, seed=0)
    return tokens, [data.batch(step) for step in range(data.epoch_batches(0))]


def test_a_segment_stands_in_the_tokenizers_own_frame(tmp_path):
    texts = [" ".join(f"w{(i + j) % 30}" for j in range(9)) for i in range(12)]
    names = dict(mask_token="<mask>", bos_token="<bos>", eos_token="<eos>")
    tokenizer = folders.whole_words(
        folders.GEMMA_NAMES, "<unk>", "<bos> $A <eos>", "<bos> $A <eos> <eos> $B <eos>"
    )
    single = ObjectivesConfig(masked_lm=MaskedLMConfig())
    tokens, batches = own_frame(tmp_path, tokenizer, texts, single, **names)
    assert tokens.cls is None
    for batch in batches:
        for row, segments in zip(batch["tokens"], batch["segments"], strict=True):
            for number in range(1, segments.max() + 1):
                segment = row[segments == number]
                assert (
                    segment[0] == 2
                    and segment[-1] == 1
                    and not {1, 2} & set(segment[1:-1].tolist())
                )
        asked = np.take_along_axis(batch["tokens"], batch["predict_positions"], 1)
        assert (asked == 4).sum() > 0.6 * batch["predict_weights"].sum()
    (tmp_path / "pairs").mkdir()
    sentences = [". ".join(["w1 w2 w3", "W4 w5 w6", "W7 w8", "W9 w1 w2."]) for _ in texts]
    texts = [f"w{i} {text}" for i, text in enumerate(sentences)]
    pairs = ObjectivesConfig(masked_lm=MaskedLMConfig(), sentence_order=SentencePairsConfig())
    _, batches = own_frame(tmp_path / "pairs", tokenizer, texts, pairs, **names)
    ends = [(row[segments == 1] == 1).sum() for b in batches
            for row, segments in zip(b["tokens"], b["segments"], strict=True)
            if segments.any()]  # fmt: skip
    assert ends and set(ends) == {3}


def test_a_document_begins_with_the_tokenizers_own_first_token(tmp_path):
    tokenizer = folders.LLAMA["tokenizer.json"]
    texts = [" ".join(f"w{(i + j) % 30}" for j in range(40)) for i in range(6)]
    causal = helpers.CAUSAL
    tokens, batches = own_frame(tmp_path, tokenizer, texts, causal, bos_token="<s>")
    read = Counter(int(t) for b in batches for t in b["tokens"][b["segments"] > 0])
    asked = Counter(int(t) for b in batches for t in b["targets"][b["target_weights"] > 0])
    assert (read[1], asked[1], asked[2]) == (6, 0, 6), "<s> begins, </s> ends"
    assert sum(asked.values()) == 6 * 41 == sum(read.values())


def test_bytes_are_those_of_the_texts_whatever_the_pieces_look_like(tmp_path):
    texts = ["a b", "a\nb", "b é", "\u4e2d b", "a  b\n"]
    accents = ["Café Zürich", "re\u0301ne\u0301 is here.", "a \u00a0 b"]
    words = helpers.word_pieces().with_tokens((helpers.END_OF_TEXT,))
    cases = [
        (folders.SENTENCE_PIECES, texts),
        (json.loads(words.to_json()), accents),
        (json.loads(helpers.byte_pairs().to_json()), texts + accents),
    ]
    for number, (tokens, content) in enumerate(cases):
        (tmp_path / str(number)).mkdir()
        _, batches = own_frame(tmp_path / str(number), tokens, content, helpers.CAUSAL)
        counted = sum((b["target_bytes"] * b["target_weights"]).sum() for b in batches)
        assert counted == pytest.approx(sum(len(text.encode()) for text in content), rel=1e-6)
