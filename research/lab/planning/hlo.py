"""Counts products, memory traffic and kernels of a compiled program from its text.

`compiled.cost_analysis()` counts the body of a loop once. Here it counts as often as it runs: the
layers of a scan, the micro-batches of an accumulation, the chunks of a loss.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

BYTES = {"pred": 1, "s4": 0.5, "u4": 0.5, "bf16": 2, "f16": 2, "c64": 8, "c128": 16}
ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\](\{[^{}]*\})?")
NAME = re.compile(r"%([\w.\-]+)")
END = re.compile(r"\}(, execution_thread=.*)?")  # last line of a computation
# Operations without memory traffic of their own.
FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional"),
    *("call", "after-all", "partition-id", "replica-id", "iota", "send", "recv"),
    *("async-start", "async-update", "optimization-barrier", "add-dependency"),
}
# Operations that read only a part of their first operand.
SLICES = {"dynamic-slice", "slice", "gather"}
KERNEL = re.compile(r"tpu_custom_call|__cudnn\$fmha")  # of attention


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line: the shape of its result as text, the names of its operands, and the rest."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    rest: str
    literal: str  # between the parentheses
    is_root: bool


@dataclasses.dataclass(frozen=True)
class Computation:
    instructions: dict[str, Instruction]

    @property
    def parameters(self) -> dict[int, str]:
        """Number of a parameter -> its name."""
        return {
            int(i.literal): i.name for i in self.instructions.values() if i.opcode == "parameter"
        }


@dataclasses.dataclass(frozen=True)
class Program:
    computations: dict[str, Computation]
    entry: str


@dataclasses.dataclass(frozen=True)
class Costs:
    """Costs of one execution of the program on one device. bytes: to and from HBM, where each fused
    operation reads its operands and writes its results once. kernels: executions of custom kernels,
    whose products are not counted."""

    flops: float
    bytes: float
    kernels: float


def parse(text: str) -> Program:
    """Parses an HLO module's text into its computations."""
    computations: dict[str, Computation] = {}
    entry, name, instructions = "", "", {}
    for line in text.splitlines():
        if not name:
            head = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
            if head:
                name, instructions = head[2], {}
                entry = name if head[1] else entry
        elif END.fullmatch(line):  # a kernel's description has lines that only begin like it
            computations[name] = Computation(instructions)
            name = ""
        elif (instruction := _instruction(line)) is not None:
            instructions[instruction.name] = instruction
    return Program(computations, entry)


def _instruction(line: str) -> Instruction | None:
    head = re.match(r"\s+(?:ROOT )?%([\w.\-]+) = ", line)
    if not head:
        return None
    at = head.end()
    end = _closing(line, at) + 1 if line[at] == "(" else line.index(" ", at)
    opening = line.index("(", end)
    closing = _closing(line, opening)
    inside = line[opening + 1 : closing]
    return Instruction(
        head[1],
        line[at:end],
        line[end:opening].strip(),
        tuple(NAME.findall(inside)),
        line[closing + 1 :],
        inside,
        line.lstrip().startswith("ROOT"),
    )


def _closing(line: str, opening: int) -> int:
    depth = 0
    for at in range(opening, len(line)):
        depth += (line[at] == "(") - (line[at] == ")")
        if not depth:
            return at
    raise ValueError(f"a parenthesis is not closed: {line[:200]}")


def size(shape: str, hbm_only: bool = False) -> float:
    """Returns the bytes of a shape, or of all shapes in a tuple, in HBM and, unless `hbm_only`, in
    on-chip memory (S(1)); synchronisation flags (S(2) and above) do not count."""
    total = 0.0
    for kind, dims, layout in ARRAY.findall(shape):
        if re.search(r"S\([1-9]" if hbm_only else r"S\([2-9]", layout):
            continue
        digits = re.sub(r"\D.*", "", kind.lstrip("abcdefghijklmnopqrstuvwxyz"))
        width = BYTES[kind] if kind in BYTES else int(digits or 0) / 8
        total += width * math.prod(map(int, filter(None, dims.split(","))))
    return total


def dims(shape: str) -> list[int]:
    """Returns the dimensions of an array's shape."""
    return [int(n) for n in ARRAY.search(shape)[2].split(",") if n]


def called(instruction: Instruction, key: str) -> list[str]:
    """Returns the computations that an attribute names: key=%a or key={%a, %b}."""
    match = re.search(rf"\b{key}=(\{{[^}}]*\}}|%[\w.\-]+)", instruction.rest)
    return NAME.findall(match[1]) if match else []


def trips(program: Program, loop: Instruction) -> int:
    """Returns how often a loop's body runs: the compiler's count, or else by its condition, "index
    < bound", and the step by which the body increases the index (2 if it was unrolled once)."""
    known = re.search(r'known_trip_count":\{"n":"(\d+)"', loop.rest)
    if known:
        return int(known[1])
    condition = program.computations[called(loop, "condition")[0]]
    bounds = [
        int(i.literal)
        for i in condition.instructions.values()
        if i.opcode == "constant" and i.literal.isdecimal()
    ]
    bound = max(bounds, default=1)
    body = program.computations[called(loop, "body")[0]].instructions
    root = next((i for i in body.values() if i.is_root and i.opcode == "tuple"), None)
    counters = [i for i in condition.instructions.values() if i.opcode == "get-tuple-element"]
    if root is None or len(counters) != 1:
        return bound
    index = int(re.search(r"index=(\d+)", counters[0].rest)[1])
    moved = body.get(root.operands[index])
    if moved is None or moved.opcode != "add":
        return bound
    steps = [
        int(body[o].literal)
        for o in moved.operands
        if o in body and body[o].opcode == "constant" and body[o].literal.isdecimal()
    ]
    return -(-bound // max(steps, default=1))


def walk(
    program: Program, name: str = "", times: float = 1.0, fused: bool = False
) -> Iterator[tuple[Computation, Instruction, float, bool]]:
    """Yields each executed instruction: (its computation, itself, how often, whether in a fusion).

    The branches of a conditional count in equal parts.
    """
    here = program.computations[name or program.entry]
    for instruction in here.instructions.values():
        yield here, instruction, times, fused
        inner: list[tuple[str, float]] = []
        if instruction.opcode == "while":
            count = times * trips(program, instruction)
            inner = [(body, count) for body in called(instruction, "body")]
        elif instruction.opcode == "conditional":
            branches = called(instruction, "branch_computations")
            branches += called(instruction, "true_computation")
            branches += called(instruction, "false_computation")
            inner = [(branch, times / len(branches)) for branch in branches]
        elif instruction.opcode in ("fusion", "call", "async-start"):
            inner = [(c, times) for c in called(instruction, "calls")]
            inner += [(c, times) for c in called(instruction, "to_apply")]
        for body, count in inner:
            yield from walk(program, body, count, fused or instruction.opcode == "fusion")


def costs(program: Program) -> Costs:
    """Counts products, memory traffic and custom kernels of one execution of the program."""
    flops = traffic = kernels = 0.0
    for here, instruction, times, fused in walk(program):
        if instruction.opcode in ("convolution", "dot"):
            flops += times * products(here, instruction)
        if instruction.opcode == "custom-call" and KERNEL.search(instruction.rest):
            kernels += times
        if not fused and not _is_free(instruction):
            traffic += times * _traffic(program, here, instruction)
    return Costs(flops, traffic, kernels)


def _is_free(instruction: Instruction) -> bool:
    """Whether it moves no data: an asynchronous operation counts at its start and not at its end,
    and a custom call that is not a kernel is only a hint for the compiler."""
    if instruction.opcode == "custom-call":
        return not KERNEL.search(instruction.rest)
    return instruction.opcode in FREE or instruction.opcode.endswith("-done")


def products(here: Computation, instruction: Instruction) -> float:
    """Returns the FLOPs of a dot or a convolution without padding; a multiply-add counts as two."""
    left, right = (dims(here.instructions[o].shape) for o in instruction.operands[:2])
    out = dims(instruction.shape)
    if instruction.opcode == "dot":
        match = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.rest)
        contracted = [left[int(d)] for d in match[1].split(",") if d] if match else []
        return 2.0 * math.prod(out) * math.prod(contracted)
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.rest)
    of_left, of_right, of_out = labels.groups()
    total = 2.0 * out[of_out.index("b")] * out[of_out.index("f")] * right[of_right.index("i")]
    window = re.search(r"window=\{([^}]*)\}", instruction.rest)
    fields = dict(part.split("=") for part in window[1].split()) if window else {}
    for axis in filter(str.isdigit, of_out):
        d = int(axis)

        def field(name: str, default: str, d: int = d) -> str:
            return fields[name].split("x")[d] if name in fields else default

        total *= _pairs(
            left[of_left.index(axis)],
            right[of_right.index(axis)],
            out[of_out.index(axis)],
            stride=int(field("stride", "1")),
            low=int(field("pad", "0_0").split("_")[0]),
            left_dilation=int(field("lhs_dilate", "1")),
            right_dilation=int(field("rhs_dilate", "1")),
        )
    return total


def _pairs(
    left: int,
    right: int,
    out: int,
    stride: int,
    low: int,
    left_dilation: int,
    right_dilation: int,
) -> int:
    """Counts the pairs of an output and a kernel position of one axis that meet an input."""
    count = 0
    for o in range(out):
        for k in range(right):
            at = o * stride + k * right_dilation - low
            count += 0 <= at <= (left - 1) * left_dilation and at % left_dilation == 0
    return count


def _traffic(program: Program, here: Computation, instruction: Instruction) -> float:
    """Returns the bytes that an instruction outside of fusions reads from and writes to HBM."""
    operands = [here.instructions[o] for o in instruction.operands if o in here.instructions]
    sides = [size(o.shape, hbm_only=True) for o in operands]
    result, written = size(instruction.shape), size(instruction.shape, hbm_only=True)
    if instruction.opcode.endswith("-start"):  # its result is a tuple that contains the operands
        result -= sum(size(o.shape) for o in operands)
        written -= sum(sides)
    if instruction.opcode.removesuffix("-start") in SLICES:
        return written + (result if sides[0] else 0.0)
    if instruction.opcode == "dynamic-update-slice":
        return 2 * sides[1]
    if instruction.opcode != "fusion":
        return written + sum(sides)
    inner = program.computations[called(instruction, "calls")[0]]
    read = 0.0
    for number, operand in enumerate(operands):
        whole = size(operand.shape, hbm_only=True)
        part, in_place = _part_read(program, inner, number)
        read += whole if part is None else min(whole, part)
        if in_place:  # the result is the operand, and only a part of it is written
            written -= max(0.0, whole - part)
    return max(0.0, written) + read


def _part_read(program: Program, inner: Computation, number: int) -> tuple[float | None, bool]:
    """Returns (bytes of a parameter that a fusion reads, None for all; whether it updates it)."""
    names, total, in_place = [inner.parameters.get(number, "")], 0.0, False
    while names:
        name = names.pop()
        for user in inner.instructions.values():
            if name not in user.operands:
                continue
            if user.opcode == "bitcast":
                names.append(user.name)
            elif user.opcode in SLICES and user.operands[0] == name:
                total += size(user.shape)
            elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
                total += size(inner.instructions[user.operands[1]].shape)
                in_place = True
            elif user.opcode == "fusion" and user.operands.count(name) == 1:
                nested = program.computations[called(user, "calls")[0]]
                part, updated = _part_read(program, nested, user.operands.index(name))
                if part is None:
                    return None, False
                total, in_place = total + part, in_place or updated
            else:
                return None, False
    return total, in_place
