"""Chooses the attention kernel, and wraps the fused one for meshes.

Splash attention (`jax.experimental.pallas.ops.tpu.splash_attention`) never holds the scores of a
row in memory, and skips blocks that the mask rules out. It runs on TPU. Elsewhere, if asked for by
name, it runs in Pallas' interpreter, which is slow and only serves comparisons.

Axes: B rows, L positions, H heads, G key/value heads, K width of a head.
"""

from collections.abc import Callable

import jax
import numpy as np
from jax.experimental.pallas.ops.tpu import splash_attention as pallas
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Int

from research.errors import UserError
from research.models.attention import Pattern
from research.models.config import ModelConfig
from research.sharding.constrain import PLACEMENT, parts, spec

LEAST_LENGTH = 1024  # where fused attention begins to pay on TPU
LANES = 128  # a block of positions is a multiple of this
BLOCK = 512  # positions of a block at most


def choose(
    config: ModelConfig, length: int, dropout: bool = False, pattern: Pattern = "full"
) -> str:
    """Returns "xla" or "splash" for rows of `length` on the devices in use.

    dropout: whether dropout is on; if the config drops attention weights, that needs XLA.

    Raises:
        UserError: `model.attention` asks for splash, which cannot run here.
    """
    reason = _reason(config, length, dropout, pattern)
    if config.attention == "splash" and reason:
        raise UserError(f"config.model.attention='splash' needs {reason}")
    if config.attention != "auto":
        return config.attention
    usual = PLACEMENT.value.platform == "tpu" and length >= LEAST_LENGTH
    return "splash" if usual and not reason else "xla"


def _reason(config: ModelConfig, length: int, dropout: bool, pattern: Pattern) -> str:
    """Says what splash needs and does not have; "" if it can run."""
    if config.positions == "alibi":
        return "config.model.positions to be 'learned' or 'rope', not 'alibi'"
    if pattern == "prefix":
        return "an objective without a prefix, whose mask differs from row to row"
    least = LANES * parts("length")
    if length % least:
        return f"rows of a multiple of {least} positions, not {length}"
    if dropout and config.attention_dropout:
        return f"config.model.attention_dropout=0, not {config.attention_dropout}"
    if parts("heads") != parts("kv_heads"):
        return "query and key heads that the rules of the mesh split alike"
    return ""


def splash(
    config: ModelConfig, segments: Int[Array, "B L"], pattern: Pattern
) -> Callable[[Array, Array, Array, Bool[Array, ""] | bool], Array]:
    """Returns (query [B, L, H, K], key [B, L, G, K], value, is the layer local) -> [B, L, H, K].

    A query sees the keys of its segment, as in `attention.segment_mask`; the outputs at padding are
    meaningless.
    """
    whole = _kernel(config, segments.shape[1], pattern, 0)
    if not config.window:
        return lambda query, key, value, local: whole(query, key, value, segments)
    near = _kernel(config, segments.shape[1], pattern, config.window // 2)

    def either(query: Array, key: Array, value: Array, local: Bool[Array, ""]) -> Array:
        return jax.lax.cond(local, near, whole, query, key, value, segments)

    return either


def _kernel(config: ModelConfig, length: int, pattern: Pattern, reach: int) -> Callable:
    """The kernel of one mask as a function of whole arrays; each device computes its part.

    reach: how many positions away a key may be; 0: any distance.
    """
    mesh = jax.sharding.get_abstract_mesh()
    pieces, heads = parts("length"), config.heads // parts("heads")
    mask, cut = _mask(length, pattern, reach, pieces)
    kernel = pallas.make_splash_mha(
        pallas.MultiHeadMask([mask] * heads),
        block_sizes=_blocks(length // pieces, length),
        head_shards=1,
        q_seq_shards=pieces if cut else 1,
        interpret=PLACEMENT.value.platform != "tpu",
    )

    def run(kernel, query, key, value, queries, keys):
        def row(q, k, v, of_q, of_k):
            segments = pallas.SegmentIds(of_q, of_k)
            q, k, v = (x.swapaxes(0, 1) for x in (q, k, v))
            return kernel(q, k, v, segment_ids=segments).swapaxes(0, 1)

        return jax.vmap(row)(query * config.head_width**-0.5, key, value, queries, keys)

    def attend(query, key, value, segments):
        if mesh.empty:
            return run(kernel, query, key, value, segments, segments)
        by_length = PartitionSpec(None, "context" if cut else None)
        queries = spec("rows", "length", "heads", None)
        keys = spec("rows", None, "kv_heads", None)
        return jax.shard_map(
            run,
            in_specs=(
                kernel.manual_sharding_spec(NamedSharding(mesh, by_length)),
                *(queries, keys, keys),
                *(spec("rows", "length"), spec("rows", None)),
            ),
            out_specs=queries,
            check_vma=False,  # the kernel does not say over which axes its results vary
        )(kernel, query, key, value, segments, segments)

    return attend


def _mask(length: int, pattern: Pattern, reach: int, pieces: int) -> tuple[pallas.Mask, bool]:
    """The mask of a row cut into `pieces`, and whether it differs between pieces."""
    if not reach and pattern == "full":
        return pallas.FullMask((length // pieces, length)), False
    window = (reach or None, 0 if pattern == "causal" else reach)
    return pallas.LocalMask((length, length), window, 0, shard_count=pieces), pieces > 1


def _blocks(queries: int, keys: int) -> pallas.BlockSizes:
    q, k = (int(np.gcd(n, BLOCK)) for n in (queries, keys))
    return pallas.BlockSizes(
        block_q=q,
        block_kv=k,
        block_q_dkv=q,
        block_kv_dkv=k,
        block_q_dq=q,
        block_kv_dq=k,
    )
