"""The demonstration: layers of real networks built, run to the bit, checked, timed and set next to GPUs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from accel import comparison
from accel.hardware import ChipSpec
from accel.kernels import matmul
from accel.networks import LAYERS, Product
from accel.problem import Attention, Conv2d
from accel.program import Verified
from accel.verification import verify

__all__ = ["DEMO", "GPUS", "WHOLE_BELOW", "Proof", "Shown", "hard_values", "prove_small", "show"]

GPUS = ("v100-sxm2", "a100-sxm-80gb", "h100-sxm")
WHOLE_BELOW = 2**31  # multiply-adds up to which a layer is verified whole; larger ones by sampled stores
SAMPLED_STORES = 4


_CAMERAS = "eight 1280x960 cameras into a RegNet stem (Radosavovic et al., CVPR 2020: 3x3, stride 2, 3 to 32 channels)"
_RESNET = "He et al., Deep Residual Learning, CVPR 2016, table 1, batch 256"
_GPT3 = "Brown et al., Language Models are Few-Shot Learners, 2020, table 2.1: 96 heads of 128, 2048 tokens, causal"
_CONV4 = {d: Conv2d(256, 14, 14, 256, 256, 3, 3, pad=1, direction=d) for d in ("fwd", "dgrad", "wgrad")}
_SHOWN_PRODUCTS = (
    "fc 2048-1000",
    "1760 x 7000 x 1760",
    "5124 x 9124 x 1760",
    "attention projection",
    "feed-forward up",
)
DEMO: tuple[Product, ...] = (
    Product("cameras", "8 x 1280x960 stem 3x3/2", Conv2d(8, 960, 1280, 3, 32, 3, 3, stride=2, pad=1), _CAMERAS),
    Product("resnet50", "conv2 1x1 64-256", Conv2d(256, 56, 56, 64, 256, 1, 1), _RESNET),
    Product("resnet50", "conv4 3x3 256-256", _CONV4["fwd"], _RESNET),
    Product("resnet50", "conv4 3x3, data gradient", _CONV4["dgrad"], _RESNET),
    Product("resnet50", "conv4 3x3, weight gradient", _CONV4["wgrad"], _RESNET),
    *(layer for layer in LAYERS if layer.name in _SHOWN_PRODUCTS),
    Product("gpt3-175b", "attention", Attention(1, 96, 2048, 2048, 128, causal=True), _GPT3),
)
"""What the demonstration shows, in the order of the page: convolutions in three directions, products, attention."""


class Shown(NamedTuple):
    """One layer of the demonstration; hazards: what the checker found; seconds_* are host times of this process."""

    layer: Product
    comparison: comparison.Comparison
    verified: Verified
    hazards: int
    seconds_time: float
    seconds_run: float


def hard_values(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return bf16 values (as `ml_dtypes.bfloat16`) of both signs spread over 16 binades, from `seed` alone.

    Neither all positive nor all of one size, so that a wrong order of accumulation shows in the bits.
    """
    import ml_dtypes

    codes = np.random.default_rng(seed).integers(0, 2**16, shape, dtype=np.uint16)
    exponent = (codes >> np.uint16(7)) & np.uint16(0x0F)
    codes &= np.uint16(0x807F)
    codes |= (exponent + np.uint16(119)) << np.uint16(7)
    return codes.view(ml_dtypes.bfloat16)


class Proof(NamedTuple):
    """A small matmul run whole in every way there is: schedules, both engines, and the hazard check."""

    shape: str
    verified: Verified
    schedules: int
    engines: int
    instructions: int

    def __str__(self) -> str:
        return (
            f"matmul {self.shape} on mini: {self.verified}; same bits under {self.schedules} adversarial schedules "
            f"and {self.engines} engines; no race, deadlock or stray token in {self.instructions} instructions"
        )


def prove_small() -> Proof:
    """Run and check a ragged matmul on the small chip; HazardError or a wrong count would show a broken library."""
    m, n, k, schedules = 61, 47, 67, 4
    program = matmul.build("mini", m=m, n=n, k=k, out_dtype="fp32")
    a, b = hard_values((m, k), 0), hard_values((k, n), 1)
    verified = matmul.verify(program, a, b)
    first = program.run(a=a, b=b)["c"].view(np.uint32)
    others = [program.run(a=a, b=b, schedule=seed) for seed in range(schedules)]
    others.append(program.run(a=a, b=b, engine="plain"))
    wrong = sum(int((first != other["c"].view(np.uint32)).sum()) for other in others)
    program.check(schedules)
    return Proof(
        f"{m}x{n}x{k}", verified._replace(wrong=verified.wrong + wrong), schedules, 2, program.isa.instructions
    )


def show(chip: ChipSpec, layers: tuple[Product, ...] = DEMO) -> Iterator[Shown]:
    """Yield every layer as it is done: small ones run whole, larger ones the causal slice of a few output blocks."""
    for seed, layer in enumerate(layers):
        problem = layer.problem
        began = time.perf_counter()
        compared = comparison.bench(problem, chip, GPUS)
        timed, program = time.perf_counter(), compared.program
        inputs = {
            name: hard_values(operand.shape, seed * len(problem.operands) + place)
            for place, (name, operand) in enumerate(problem.operands.items())
            if operand.role == "in"
        }
        ran = time.perf_counter()
        sample = None if problem.macs <= WHOLE_BELOW else program.sample_outputs(SAMPLED_STORES, seed)
        verdict = verify(problem, program, inputs, program.run(inputs, sample=sample), sample=sample, seed=seed)
        verified = Verified(verdict.checked, verdict.total, verdict.mismatches)
        hazards = len(program.findings(schedules=0))  # happens-before needs one walk
        yield Shown(layer, compared, verified, hazards, timed - began, time.perf_counter() - ran)
