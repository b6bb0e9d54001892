"""Rows of several sources by weight."""

import numpy as np
import pytest

from research.data import store
from research.data.sources import SourceConfig
from research.errors import UserError
from research.objectives import source_mixture as mixture
from research.objectives.source_mixture import CYCLE, MixedBatches
from research.run import corpus
from tests import helpers


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two sources of other lengths, each a store of its own."""
    folder = tmp_path_factory.mktemp("mixed")
    given = tuple(
        SourceConfig(helpers.write_corpus(folder / f"{n}.jsonl", count, seed=n))
        for n, count in enumerate((40, 10))
    )
    tokens = helpers.word_pieces()
    jobs = [store.Job(given, "train", 2.0, tokens, str(folder / "cache"), n) for n in (0, 1)]
    return [job.build(quiet=True) for job in jobs]


def make(stores, weights=(3.0, 1.0), rows=8, seed=0) -> MixedBatches:
    parts = [
        helpers.batches(made, helpers.MASKED_AND_NEXT, rows=1, seed=f"{seed} {n}")
        for n, made in enumerate(stores)
    ]
    return MixedBatches(parts, mixture.shares(weights, ("a", "b")), rows, seed)


def test_shares_are_the_weights_of_any_sum_and_fill_the_cycle():
    assert mixture.shares((3.0, 1.0), "ab").tolist() == [7500, 2500]
    assert mixture.shares((0.75, 0.25), "ab").tolist() == [7500, 2500]
    thirds = mixture.shares((1.0, 1.0, 1.0), "abc")
    assert sorted(thirds.tolist()) == [3333, 3333, 3334] and thirds.sum() == CYCLE
    with pytest.raises(UserError, match="weights: 1e-05 of 1.00001 for b is less than one row"):
        mixture.shares((1.0, 1e-5), "ab")


def test_rows_of_each_source_are_read_in_order_in_exact_shares(stores):
    data = make(stores)
    found = [data.source(row) for row in range(2 * CYCLE)]
    for source, share in ((0, 0.75), (1, 0.25)):
        assert [row for s, row in found if s == source] == list(range(int(share * 2 * CYCLE)))
    in_batches = np.array([s for s, _ in found]).reshape(-1, 100).mean(1)
    assert abs(in_batches - 0.25).max() < 0.2  # no long run of one source
    assert [s for s, _ in found[:CYCLE]] != [s for s, _ in found[CYCLE:]]


def test_a_batch_depends_on_seed_and_step_alone_and_may_be_made_in_parts(stores):
    data, fresh = make(stores), make(stores)
    steps = [data.batch(step) for step in range(12)]
    for step in (11, 0, 7):
        whole = fresh.batch(step)
        parts = [make(stores).batch(step, *span) for span in ((0, 3), (3, 8))]
        for name in whole:
            assert np.array_equal(whole[name], steps[step][name])
            assert np.array_equal(np.concatenate([p[name] for p in parts]), whole[name])
    other = make(stores, seed=1).batch(0)
    assert not np.array_equal(other["tokens"], steps[0]["tokens"])


def test_a_row_is_the_next_of_its_source_through_its_epochs(stores):
    data = make(stores, rows=1)
    small = data.parts[1]
    assert small.epoch_rows(0) < 100  # so that it is read several times
    seen = 0
    for step in range(600):
        source, row = data.source(step)
        if source == 1 and row % 17 == 0:
            expected = small.batch(row)
            assert np.array_equal(data.batch(step)["tokens"], expected["tokens"])
            seen = max(seen, small.locate(row)[0])
    assert seen >= 1


def test_a_pass_has_as_many_batches_as_full_rows_of_all_tokens(stores):
    data = make(stores)
    tokens = sum(made.counts["tokens"] for made in stores)
    assert data.epoch_batches(0) == -(-tokens // (8 * helpers.LENGTH))
    assert data.epoch_batches(0, most=2) == 2
    assert data.locate(data.epoch_batches(0) + 3) == (1, 3)


def test_other_weights_need_no_other_store_and_hold_out_the_same(tmp_path):
    values = helpers.run_values("bert", tmp_path, steps=2)
    values["data"]["corpus"].append(helpers.write_corpus(tmp_path / "b.jsonl", 30, seed=5))
    values["data"]["held_out_percent"] = 20.0
    made = []
    for weights in ((), (1.0, 1.0), (5.0, 1.0)):
        config = helpers.from_values(values | {"data": values["data"] | {"weights": weights}})
        tokenizer = corpus.make_tokenizer(config.tokenizer, config.data)
        made.append(corpus.pretraining(config, tokenizer, 2, quiet=True))
    alone, even, uneven = made
    assert even.key == uneven.key != alone.key
    assert alone.validation.store == even.validation.store == uneven.validation.store
    assert len(list((tmp_path / "cache" / "tokens").iterdir())) == 4
    documents = alone.train.store.counts["documents"]
    assert sum(part.store.counts["documents"] for part in even.train.parts) == documents
    assert uneven.train.counts.tolist() == [8333, 1667]
