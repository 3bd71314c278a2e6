"""The instructions of every elementwise function and gradient on one block: `STEPS[direction][function](v, at)`.

v is `k.vec`; `at` names views of one length: the operands of the problem, the working buffers w0 to w2 (fp32) and mask
(uint8), and the constants zero (in the format of the inputs) and one, of one element. Operands of one instruction have
one format, so inputs are widened where they meet a number in fp32; the last instruction rounds to the result's format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accel.lang import View
    from accel.lang.vector import Vec

__all__ = ["CUBIC", "DENSITY", "ROOT_2_PI", "ROOT_HALF", "STEPS", "WORK"]

ROOT_HALF, DENSITY = 0.7071067811865476, 0.3989422804014327  # sqrt(1/2) and 1 / sqrt(2 pi)
ROOT_2_PI, CUBIC = 0.7978845608028654, 0.044715  # sqrt(2 / pi); Hendrycks and Gimpel, "Gaussian error linear units"
WORK = ("w0", "w1", "w2")

At = Mapping[str, "View"]


def _wide(v: Vec, buffer: View, x: View) -> View:
    """Return x in fp32: itself, or cast to `buffer`."""
    if x.dtype == "fp32":
        return x
    v.cast(buffer, x)
    return buffer


def _relu(v: Vec, at: At) -> None:
    v.relu(at["y"], at["x"])


def _relu_gradient(v: Vec, at: At) -> None:
    # A NaN in x passes the gradient on, as in torch.
    v.compare(at["mask"], at["x"], "<=", 0.0)
    kept = at["gx"] if at["gx"].dtype == at["gy"].dtype else at["narrow"]
    v.select(kept, at["mask"], at["zero"], at["gy"])
    if kept is not at["gx"]:
        v.cast(at["gx"], kept)


def _gelu(v: Vec, at: At) -> None:
    _normal_below(v, at, at["w0"])
    v.mul(at["w1"], at["x"], 0.5)
    v.mul(at["y"], at["w1"], at["w0"])


def _normal_below(v: Vec, at: At, t: View) -> None:
    """t = 1 + erf(x / sqrt 2)."""
    v.mul(t, at["x"], ROOT_HALF)
    v.erf(t, t)
    v.add(t, t, 1.0)


def _gelu_gradient(v: Vec, at: At) -> None:
    below, x, density = at["w0"], _wide(v, at["w1"], at["x"]), at["w2"]
    _normal_below(v, at, below)
    v.mul(below, below, 0.5)
    v.mul(density, x, x)
    v.mul(density, density, -0.5)
    v.exp(density, density)
    v.mul(density, density, DENSITY)
    v.fma(below, x, density, below)
    v.mul(at["gx"], _wide(v, at["w1"], at["gy"]), below)


def _gelu_tanh(v: Vec, at: At) -> None:
    _cubic_tanh(v, at["w0"], _wide(v, at["w1"], at["x"]))
    v.add(at["w0"], at["w0"], 1.0)
    v.mul(at["w1"], at["x"], 0.5)
    v.mul(at["y"], at["w1"], at["w0"])


def _cubic_tanh(v: Vec, t: View, x: View) -> None:
    """t = tanh(sqrt(2/pi) (x + 0.044715 x^3))."""
    v.mul(t, x, x)
    v.mul(t, t, CUBIC)
    v.add(t, t, 1.0)
    v.mul(t, t, x)
    v.mul(t, t, ROOT_2_PI)
    v.tanh(t, t)


def _gelu_tanh_gradient(v: Vec, at: At) -> None:
    t, x, slope = at["w0"], _wide(v, at["w1"], at["x"]), at["w2"]
    _cubic_tanh(v, t, x)
    v.mul(slope, x, x)
    v.mul(slope, slope, 3.0 * CUBIC)
    v.add(slope, slope, 1.0)
    v.mul(slope, slope, ROOT_2_PI)
    v.mul(slope, slope, x)  # x times the slope of the cubic
    free = at["w1"]  # x is used up
    v.mul(free, t, t)
    v.mul(free, free, -1.0)
    v.add(free, free, 1.0)
    v.mul(slope, slope, free)
    v.add(t, t, 1.0)
    v.add(t, t, slope)
    v.mul(t, t, 0.5)
    v.mul(at["gx"], _wide(v, free, at["gy"]), t)


def _silu(v: Vec, at: At) -> None:
    v.sigmoid(at["w0"], at["x"])
    v.mul(at["y"], _wide(v, at["w1"], at["x"]), at["w0"])


def _silu_gradient(v: Vec, at: At) -> None:
    s, x, t = at["w0"], _wide(v, at["w1"], at["x"]), at["w2"]
    v.sigmoid(s, at["x"])
    v.neg(t, s)
    v.fma(t, t, x, x)  # x (1 - s)
    v.add(t, t, 1.0)
    v.mul(s, s, t)
    v.mul(at["gx"], _wide(v, at["w1"], at["gy"]), s)


def _sigmoid(v: Vec, at: At) -> None:
    v.sigmoid(at["y"], at["x"])


def _sigmoid_gradient(v: Vec, at: At) -> None:
    y, t = _wide(v, at["w1"], at["y"]), at["w0"]
    v.neg(t, y)
    v.fma(t, t, y, y)
    v.mul(at["gx"], _wide(v, at["w1"], at["gy"]), t)


def _tanh(v: Vec, at: At) -> None:
    v.tanh(at["y"], at["x"])


def _tanh_gradient(v: Vec, at: At) -> None:
    y, t = _wide(v, at["w1"], at["y"]), at["w0"]
    v.neg(t, y)
    v.fma(t, t, y, at["one"])
    v.mul(at["gx"], _wide(v, at["w1"], at["gy"]), t)


def _exp(v: Vec, at: At) -> None:
    v.exp(at["y"], at["x"])


def _exp_gradient(v: Vec, at: At) -> None:
    v.mul(at["gx"], at["gy"], at["y"])


def _add(v: Vec, at: At) -> None:
    v.add(at["y"], at["a"], at["b"])


def _add_gradient(v: Vec, at: At) -> None:
    v.cast(at["ga"], at["gy"])
    v.cast(at["gb"], at["gy"])


def _mul(v: Vec, at: At) -> None:
    v.mul(at["y"], at["a"], at["b"])


def _mul_gradient(v: Vec, at: At) -> None:
    v.mul(at["ga"], at["gy"], at["b"])
    v.mul(at["gb"], at["gy"], at["a"])


def _add_scalar(v: Vec, at: At) -> None:
    v.add(at["y"], _wide(v, at["w0"], at["x"]), at["s"])


def _add_scalar_gradient(v: Vec, at: At) -> None:
    v.cast(at["gx"], at["gy"])


def _mul_scalar(v: Vec, at: At) -> None:
    v.mul(at["y"], _wide(v, at["w0"], at["x"]), at["s"])


def _mul_scalar_gradient(v: Vec, at: At) -> None:
    v.mul(at["gx"], _wide(v, at["w0"], at["gy"]), at["s"])


Step = Callable[["Vec", At], None]
STEPS: dict[str, dict[str, Step]] = {
    "fwd": {
        "relu": _relu, "gelu": _gelu, "gelu_tanh": _gelu_tanh, "silu": _silu, "sigmoid": _sigmoid, "tanh": _tanh,
        "exp": _exp, "add": _add, "mul": _mul, "add_scalar": _add_scalar, "mul_scalar": _mul_scalar,
    },
    "bwd": {
        "relu": _relu_gradient, "gelu": _gelu_gradient, "gelu_tanh": _gelu_tanh_gradient, "silu": _silu_gradient,
        "sigmoid": _sigmoid_gradient, "tanh": _tanh_gradient, "exp": _exp_gradient, "add": _add_gradient,
        "mul": _mul_gradient, "add_scalar": _add_scalar_gradient, "mul_scalar": _mul_scalar_gradient,
    },
}  # fmt: skip
