"""The parts of `benchmarks.card`: each yields a dict of results for each case.

A case that fails yields a dict with its error, and the next one runs. `tiny`: shapes for a CPU.
"""

import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import card_runs, train_step
from benchmarks.slowest_kernels import slowest
from research import config as configs
from research.generation import decode
from research.generation.decoding import DecodingConfig
from research.models import attention
from research.run import flops, restore
from research.run.synthetic import synthetic_run
from research.sharding import mesh as meshes

Case = dict[str, Any]

# FLOP/s of dense bfloat16 products, from NVIDIA's data sheets of H100 SXM and H200.
PEAKS = {"NVIDIA H100 80GB HBM3": 989.4e12, "NVIDIA H200": 989.4e12}
REPEATS = 5  # of a train step, each at least a second of steps
CALLS = 10  # of attention, timed together

BERT, GPT = "configs/pretrain/bert.py:size=large", "configs/pretrain/gpt.py:size=small"
NO_DROPOUT = {"model.dropout": 0.0, "model.attention_dropout": 0.0}
DROPOUT = {"model.dropout": 0.1, "model.attention_dropout": 0.1}
# Part -> config, length, and cases of (rows, overrides). The first case is profiled.
STEPS: dict[str, tuple[str, int, list[tuple[int, dict]]]] = {
    "gpt2_small": (
        GPT,
        1024,
        [(16, {}), (64, {"model.remat": "dots"}), (16, {"model.remat": "dots"} | DROPOUT)],
    ),
    "bert_large_128": (
        BERT,
        128,
        [(256, {}), (256, {"model.remat": "none"}), (256, {"model.remat": "none"} | NO_DROPOUT)],
    ),
    "bert_large_512": (
        BERT,
        512,
        [(64, {}), (64, NO_DROPOUT), (24, {"model.remat": "none"} | NO_DROPOUT)],
    ),
}


def machine(tiny: bool, texts: str) -> Iterator[Case]:
    """Measures the FLOP/s of a large matrix product, of random numbers and of ones."""
    size = 256 if tiny else 8192
    numbers = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16)
    for name, a in (("random numbers", numbers), ("ones", jnp.ones_like(numbers))):
        product = jax.jit(lambda x: x @ x).lower(a).compile()
        seconds = _seconds(lambda product=product, a=a: product(a), CALLS)
        yield {"case": f"{size} x {size}, {name}", "flops": 2.0 * size**3 / seconds}


def steps(part: str) -> Callable[[bool, str], Iterator[Case]]:
    """Returns a part that measures train steps of one config, on synthetic rows."""

    def measured(tiny: bool, texts: str) -> Iterator[Case]:
        config, length, cases = STEPS[part]
        for number, (rows, changes) in enumerate(cases):
            with tempfile.TemporaryDirectory() as trace:
                trace = "" if number else trace
                if tiny:
                    config, length, rows = f"{config.partition(':')[0]}:size=tiny", 16, 8
                    changes = changes | {"tokenizer.vocab_size": 256}
                yield from _halved(config, length, rows, changes, trace)

    return measured


def _halved(config: str, length: int, rows: int, changes: dict, trace: str) -> Iterator[Case]:
    """Measures a case; if its rows do not fit in memory, again with half of them."""
    for size in (rows, rows // 2):
        try:
            yield _step(config, length, size, changes, trace)
        except Exception as error:  # jax's, the compiler's or the profiler's
            yield {"case": f"{size} x {length}", "changes": changes, "error": str(error)[:500]}
            if "RESOURCE_EXHAUSTED" in str(error):
                continue
            if trace:  # try again without the profile
                trace = ""
                continue
        return


def _step(config: str, length: int, rows: int, changes: dict, trace: str) -> Case:
    changes = {"data.length": length, "train.batch_size": rows * length} | changes
    run = synthetic_run(configs.load(config, changes))
    measured = train_step.measure(run, REPEATS, trace)
    step = statistics.median(measured.seconds)
    operations = flops.train_step(run.model, run.train.layout, rows, run.objectives)
    peak = PEAKS.get(jax.devices()[0].device_kind)
    model = run.model
    return {
        "case": f"{rows} x {length}",
        "config": config,
        "dropout": model.dropout,
        "attention_dropout": model.attention_dropout,
        "remat": model.remat,
        "attention": run.attention,
        "dtype": model.dtype,
        "compile_seconds": measured.compile_seconds,
        "step_seconds": measured.seconds,
        "rows_per_second": rows / step,
        "tokens_per_second": rows * length / step,
        "flops": operations / step,
        "mfu": operations / step / peak if peak else None,
        "memory": measured.memory,
        "profile": slowest(trace, train_step.TRACED) if trace else None,
    }


def attention_alone(tiny: bool, texts: str) -> Iterator[Case]:
    """Measures attention alone, forward and backward: ours and cuDNN's fused kernel."""
    rows, length, heads, width = (2, 64, 2, 16) if tiny else (8, 1024, 16, 64)
    key = jax.random.key(0)
    shape = (4, rows, length, heads, width)
    query, key_, value, weight = jax.random.normal(key, shape, jnp.bfloat16)
    quarter = jnp.arange(length) * 4 // length
    packed = jnp.broadcast_to(1 + quarter, (rows, length))  # four segments of a row
    whole = jnp.ones_like(packed)
    keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(jnp.arange(rows))
    lengths = jnp.full(rows, length - length // 8, jnp.int32)
    padded = (jnp.arange(length) < lengths[:, None]).astype(jnp.int32)

    def ours(segments, pattern, rate=0.0):
        def attend(q, k, v):
            mask = attention.segment_mask(segments, pattern)
            return attention.attend(q, k, v, mask, rate, keys if rate else None)

        return attend

    def cudnn(**options):
        def attend(q, k, v):
            return jax.nn.dot_product_attention(q, k, v, implementation="cudnn", **options)

        return attend

    part = {"query_seq_lengths": lengths, "key_value_seq_lengths": lengths}
    segments = attention.segment_mask(packed, "full")[:, None]
    for name, by_xla, others in (
        ("full", ours(whole, "full"), {"cudnn": cudnn()}),
        ("causal", ours(whole, "causal"), {"cudnn": cudnn(is_causal=True)}),
        ("full, an eighth padding", ours(padded, "full"), {"cudnn, lengths": cudnn(**part)}),
        ("four segments", ours(packed, "full"), {"cudnn, mask": cudnn(mask=segments)}),
        ("full, dropout", ours(whole, "full", 0.1), {}),
    ):
        real = padded if "padding" in name else whole
        real = (real * 1.0)[..., None, None].astype(jnp.bfloat16)
        for kernel, attend in ({"xla": by_xla} | others).items():
            case = {"case": name, "kernel": kernel, "rows": rows, "length": length, "heads": heads}
            try:
                measured, results = _attention(attend, query, key_, value, weight * real)
            except Exception as error:  # an unavailable kernel raises various errors
                yield case | {"error": str(error)[:500]}
                continue
            if kernel == "xla":
                reference = results
            yield case | measured | {"difference": _difference(results, reference, real)}


def _attention(attend: Callable, query, key, value, weight) -> tuple[Case, tuple]:
    """Time and memory; the output and the gradients of query, key and value."""

    def both(query, key, value, weight):
        output, pull = jax.vjp(attend, query, key, value)
        return output, *pull(weight)

    compiled = jax.jit(both).lower(query, key, value, weight).compile()
    results = compiled(query, key, value, weight)
    seconds = _seconds(lambda: compiled(query, key, value, weight), CALLS)
    temporaries = compiled.memory_analysis().temp_size_in_bytes
    return {"seconds": seconds, "temporaries": temporaries}, results


def _difference(results, reference, real) -> list[float]:
    """|a - b| / |b| of the output and of the gradients of query, key and value."""

    def one(a, b):
        a, b = ((x * real).astype(jnp.float32) for x in (a, b))
        return float(jnp.linalg.norm((a - b).ravel()) / jnp.linalg.norm(b.ravel()))

    return [one(a, b) for a, b in zip(results, reference, strict=True)]


def _seconds(call: Callable[[], Any], count: int, repeats: int = 10) -> float:
    """Seconds of a call: the median of `repeats`, each the mean of `count` calls."""
    jax.block_until_ready(call())
    means = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(count):
            last = call()
        jax.block_until_ready(last)
        means.append((time.perf_counter() - start) / count)
    return statistics.median(means)


def generation(tiny: bool, texts: str) -> Iterator[Case]:
    """Measures greedy decoding: 64 tokens after prompts of 128, new weights of GPT-2's shape."""
    config, prompt, new = ("configs/pretrain/gpt.py:size=tiny", 16, 16) if tiny else (GPT, 128, 64)
    vocabulary = {"tokenizer.vocab_size": 256} if tiny else {}
    run = synthetic_run(configs.load(config, {"train.batch_size": 1024} | vocabulary))
    with meshes.use(run.mesh, run.config.mesh):
        params = restore.initial_params(run)[0]
    end = run.model.vocab_size - 1  # never produced, so that every row has `new` tokens
    allowed = [n != end for n in range(run.model.vocab_size)]
    tokens = run.train.batch(0)["tokens"].ravel()
    for rows in (1, 8):
        prompts = [tokens[i * prompt : (i + 1) * prompt] % end for i in range(rows)]

        def continued(prompts=prompts) -> float:
            generated = decode.generate(
                params,
                run.model,
                [p.tolist() for p in prompts],
                ends=[end],
                max_tokens=new,
                decoding=DecodingConfig(),
                allowed=allowed,
            )
            assert all(len(row) == new for row in generated.tokens)
            return generated.seconds

        first = continued()
        seconds = statistics.median(continued() for _ in range(5))
        yield {
            "case": f"{rows} x {prompt} + {new}",
            "dtype": run.model.dtype,
            "first_seconds": first,
            "seconds": seconds,
            "tokens_per_second": rows * new / seconds,
        }


def device() -> Case:
    """Describes the device and the versions."""
    chip = jax.devices()[0]
    return {
        "device": chip.device_kind,
        "platform": chip.platform,
        "count": jax.device_count(),
        "jax": jax.__version__,
        "jaxlib": jax.lib.__version__,
        "backend": chip.client.platform_version,
        "cores": os.cpu_count(),
    }


@dataclasses.dataclass(frozen=True)
class Part:
    """measure: (tiny, folder of texts) -> cases. seconds: its time limit."""

    measure: Callable[[bool, str], Iterator[Case]]
    seconds: int


PARTS = {
    "machine": Part(machine, 40),
    "gpt2_small": Part(steps("gpt2_small"), 110),
    "bert_large_128": Part(steps("bert_large_128"), 120),
    "attention": Part(attention_alone, 60),
    "shakespeare": Part(card_runs.shakespeare, card_runs.SHAKESPEARE_SECONDS + 35),
    "bert_large_512": Part(steps("bert_large_512"), 110),
    "generation": Part(generation, 40),
    "resumed": Part(card_runs.resumed, 60),
}
