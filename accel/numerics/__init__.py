"""Number formats, conversion to and from their codes, and error bounds."""

from accel.numerics.bounds import UNIT_ROUNDOFF, gamma, matmul_error_bound
from accel.numerics.chains import chain_matmul
from accel.numerics.formats import FORMATS, Format, by_code, fmt
from accel.numerics.storage import Codes, as_storage, bias_word, cast, decode, encode, from_storage, round_to

__all__ = [
    "FORMATS",
    "UNIT_ROUNDOFF",
    "Codes",
    "Format",
    "as_storage",
    "bias_word",
    "by_code",
    "cast",
    "chain_matmul",
    "decode",
    "encode",
    "fmt",
    "from_storage",
    "gamma",
    "matmul_error_bound",
    "round_to",
]
