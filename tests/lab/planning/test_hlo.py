"""Costs read from a compiled program's text: loops counted as often as they run."""

import jax
import jax.numpy as jnp
import pytest

from research.lab.planning import hlo

F32 = 4


def program(function, *arguments) -> hlo.Program:
    """The program that XLA compiles from a function for this machine's processor."""
    return hlo.parse(jax.jit(function).lower(*arguments).compile().as_text())


def test_a_product_counts_two_for_each_multiply_add():
    made = program(lambda a, b: a @ b, jnp.ones((8, 32)), jnp.ones((32, 16)))
    assert hlo.costs(made).flops == 2 * 8 * 32 * 16


@pytest.mark.smoke
def test_a_loop_counts_as_often_as_it_runs():
    def nested(x, w):
        def inner(x, _):
            return jnp.tanh(x @ w), None

        def outer(x, _):
            return jax.lax.scan(inner, x, None, length=5)[0], None

        return jax.lax.scan(outer, x, None, length=3)[0]

    made = program(nested, jnp.ones((8, 32)), jnp.ones((32, 32)))
    assert hlo.costs(made).flops == 15 * 2 * 8 * 32 * 32


BRANCHES = """HloModule m
%yes (a: f32[8,8]) -> f32[8,8] {
  %a = f32[8,8]{1,0} parameter(0)
  ROOT %once = f32[8,8]{1,0} dot(%a, %a), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%no (b: f32[8,8]) -> f32[8,8] {
  ROOT %b = f32[8,8]{1,0} parameter(0)
}

ENTRY %main (p: pred[], x: f32[8,8]) -> f32[8,8] {
  %p = pred[] parameter(0)
  %x = f32[8,8]{1,0} parameter(1)
  ROOT %or = f32[8,8]{1,0} conditional(%p, %x, %x), true_computation=%yes, false_computation=%no
}
"""


def test_the_branches_of_a_condition_share_one_run():
    assert hlo.costs(hlo.parse(BRANCHES)).flops == 8**3


# As the TPU compiler writes them: products of batches become convolutions.
SCORES = "window={size=16x12 stride=15x11 lhs_dilate=16x12}, dim_labels=0b1f_0o1i->01bf"
QUERY = "window={size=1x12 pad=0_0x11_11 rhs_reversal=0x1}, dim_labels=0bf1_i1o0->0b1f"
UP = "window={size=1}, dim_labels=0bf_io0->0bf"


@pytest.mark.parametrize(
    ("left", "right", "out", "rest", "products"),
    [
        ("16,512,12,64", "16,512,12,64", "16,12,512,512", SCORES, 16 * 12 * 512 * 512 * 64),
        ("16,512,768,1", "768,12,64,1", "16,512,12,64", QUERY, 16 * 512 * 768 * 12 * 64),
        ("16,512,768", "768,3072,1", "16,512,3072", UP, 16 * 512 * 768 * 3072),
    ],
)
def test_convolutions_that_are_products(left, right, out, rest, products):
    text = f"""HloModule m
ENTRY %main (a: bf16[2], b: bf16[2]) -> f32[2] {{
  %a = bf16[{left}]{{3,1,2,0:T(8,128)(2,1)}} parameter(0)
  %b = bf16[{right}]{{3,1,2,0:T(8,128)(2,1)S(1)}} parameter(1)
  ROOT %c = f32[{out}]{{3,2,1,0:T(8,128)}} convolution(%a, %b), {rest}, metadata={{op_name="x"}}
}}
"""
    assert hlo.costs(hlo.parse(text)).flops == 2 * products


LOOP = """HloModule m
%body (p: (u32[], f32[8,8])) -> (u32[], f32[8,8]) {
  %p = (u32[]{:T(128)}, f32[8,8]{1,0}) parameter(0)
  %i = u32[]{:T(128)} get-tuple-element(%p), index=0
  %x = f32[8,8]{1,0} get-tuple-element(%p), index=1
  %two = u32[]{:T(128)} constant(STEP)
  %next = u32[]{:T(128)} add(%i, %two)
  %once = f32[8,8]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %out = (u32[], f32[8,8]{1,0}) tuple(%next, %once)
}

%condition (q: (u32[], f32[8,8])) -> pred[] {
  %q = (u32[]{:T(128)}, f32[8,8]{1,0}) parameter(0)
  %j = u32[]{:T(128)} get-tuple-element(%q), index=0
  %bound = u32[]{:T(128)} constant(8)
  ROOT %less = pred[]{:T(512)} compare(%j, %bound), direction=LT
}

ENTRY %main (a: (u32[], f32[8,8])) -> (u32[], f32[8,8]) {
  %a = (u32[]{:T(128)}, f32[8,8]{1,0}) parameter(0)
  ROOT %loop = (u32[], f32[8,8]{1,0}) while(%a), condition=%condition, body=%body
}
"""


@pytest.mark.parametrize(("step", "runs"), [(1, 8), (2, 4), (3, 3)])
def test_a_loop_that_the_compiler_has_unrolled(step, runs):
    made = hlo.parse(LOOP.replace("STEP", str(step)))
    assert hlo.costs(made).flops == runs * 2 * 8**3


def test_sizes_by_type_and_by_memory():
    assert hlo.size("bf16[4,8]{1,0}") == 64
    assert hlo.size("(f32[2]{0}, s8[3]{0}, pred[5]{0}, u32[]{:S(2)})") == 8 + 3 + 5
    assert hlo.size("f8e4m3fn[10]{0}") == 10
    assert hlo.size("(bf16[4]{0:T(128)S(1)}, f32[4]{0:T(128)})", hbm_only=True) == 16


def test_of_a_stack_only_the_layer_is_read():
    def layers(x, stack):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x + w), None), x, stack)[0]

    made = program(layers, jnp.ones(1024), jnp.ones((50, 1024)))
    once = 1024 * F32
    assert 50 * 3 * once <= hlo.costs(made).bytes < 50 * 8 * once


COPIES = """HloModule m
ENTRY %main (a: f32[24,8,8]) -> f32[1,8,8] {
  %a = f32[24,8,8]{2,1,0:T(8,128)} parameter(0)
  LINES
}
"""


@pytest.mark.parametrize(
    ("lines", "read", "written"),
    [
        (
            "%s = ((f32[24,8,8]{2,1,0}), f32[1,8,8]{2,1,0:S(1)}, s32[]{:S(2)}) slice-start(%a), "
            "slice={[3:4], [0:8], [0:8]}\n  ROOT %d = f32[1,8,8]{2,1,0:S(1)} slice-done(%s)",
            64,
            0,
        ),
        (
            "%s = (f32[24,8,8]{2,1,0}, f32[24,8,8]{2,1,0}, u32[]{:S(2)}) copy-start(%a)\n"
            "  ROOT %d = f32[24,8,8]{2,1,0} copy-done(%s)",
            24 * 64,
            24 * 64,
        ),
        ("ROOT %s = f32[1,8,8]{2,1,0:S(1)} slice(%a), slice={[3:4], [0:8], [0:8]}", 64, 0),
        ('ROOT %s = f32[9]{0} custom-call(), custom_call_target="AllocateBuffer"', 0, 0),
    ],
)
def test_copies_move_what_they_copy(lines, read, written):
    found = hlo.costs(hlo.parse(COPIES.replace("LINES", lines))).bytes
    assert found == (read + written) * F32


NESTED = """HloModule m
%inner (p.0: f32[24,8,8]) -> f32[1,8,8] {
  %p.0 = f32[24,8,8]{2,1,0} parameter(0)
  ROOT %s = f32[1,8,8]{2,1,0} slice(%p.0), slice={[3:4], [0:8], [0:8]}
}

%outer (p.1: f32[24,8,8]) -> f32[1,8,8] {
  %p.1 = f32[24,8,8]{2,1,0} parameter(0)
  %f = f32[1,8,8]{2,1,0} fusion(%p.1), kind=kLoop, calls=%inner
  ROOT %n = f32[1,8,8]{2,1,0} negate(%f)
}, execution_thread="sparsecore"

ENTRY %main (a: f32[24,8,8]) -> f32[1,8,8] {
  %a = f32[24,8,8]{2,1,0} parameter(0)
  ROOT %g = f32[1,8,8]{2,1,0} fusion(%a), kind=kOutput, calls=%outer
}
"""


def test_a_fusion_in_a_fusion_reads_the_part_that_it_takes():
    assert hlo.costs(hlo.parse(NESTED)).bytes == (64 + 64) * F32
