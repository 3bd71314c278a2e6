"""Word positions of the packed int64 tables a program is made of; every engine indexes by these names."""

from __future__ import annotations

__all__ = [
    "BIAS_IEEE",
    "CODE_WORDS",
    "DEPTHS",
    "DIMS",
    "DIR_COLLECT",
    "DIR_PRELOAD",
    "EXPR_LOOPS",
    "EXPR_LOOP_WORDS",
    "EXPR_PARAMS",
    "EXPR_WORDS",
    "E_LOOPS",
    "E_NLOOPS",
    "E_NPARAMS",
    "E_PARAMS",
    "H_DIRECTION",
    "H_DST",
    "H_LINE",
    "H_ROLE",
    "H_SRC",
    "L_ADD",
    "L_COEF",
    "L_DEPTH",
    "L_MOD",
    "L_MUL",
    "PARAM_COL",
    "PARAM_ROW",
    "PRED_TERMS",
    "PRED_WORDS",
    "P_COUNT",
    "P_TERMS",
    "REL_EQ",
    "REL_GE",
    "REL_LT",
    "REL_NE",
    "SHARD_WORDS",
    "SPACE_MEMORY",
    "SPACE_SRAM",
    "TARGET_ALL",
    "TARGET_SELF",
    "TARGET_WORDS",
    "T_COL0",
    "T_COL1",
    "T_ROW0",
    "T_ROW1",
    "VIEW_WORDS",
    "VX_WORDS",
    "V_BIAS",
    "V_DTYPE",
    "V_NDIM",
    "V_OBJECT",
    "V_RING_BASE",
    "V_RING_BYTES",
    "V_SCALAR",
    "V_SHAPE",
    "V_SPACE",
    "V_STRIDE",
    "W_FIRST",
    "W_LINE",
    "W_OPCODE",
    "W_PRED",
    "X_BEGIN",
    "X_COUNT",
    "X_END",
    "X_HIGH",
    "X_ITEM",
    "X_LOW",
]  # fmt: skip

# --- code: one row an instruction -------------------------------------------------------------------------------
# The operands follow from word 3 in the order of the instruction's row in `table.py`:
#   view  3 words: view id, byte address, expression id (address = word + expression)
#   sem   2 words: semaphore index (-1 = none), expression id
#   value 2 words: constant, expression id
#   target 1 word: target id;  imm 1 word: an integer, or the 32 bits of an fp32 number (zero-extended; in a row that
#   computes in integers, of an int32)
#   index 6 words: logical index of the first element (constant, expression), its step along each of the four dimensions
CODE_WORDS = 16
W_OPCODE, W_PRED, W_LINE, W_FIRST = 0, 1, 2, 3

# --- views: what an operand looks like, whatever its address --------------------------------------------------------
# Dimensions are right-aligned to four (leading ones are 1 with stride 0); strides are in bytes. A matmul operand
# always uses two pairs: (rows outer, rows inner, columns outer, columns inner).
VIEW_WORDS = 16
DIMS = 4
V_SPACE, V_DTYPE, V_OBJECT, V_NDIM, V_SHAPE, V_STRIDE, V_RING_BASE, V_RING_BYTES = 0, 1, 2, 3, 4, 8, 12, 13
# A ring (V_RING_BYTES > 0, in SRAM): the element at byte a lies at base + (a - base) mod bytes.
# V_BIAS: exponent bias of a configurable format, plus BIAS_IEEE where its denormals follow IEEE 754. V_SCALAR: 0, or
# 1 + the SRAM offset of a uint8 whose low six bits replace the bias whenever the view is decoded or encoded.
V_BIAS, V_SCALAR, BIAS_IEEE = 14, 15, 256
SPACE_SRAM, SPACE_MEMORY = 0, 1  # V_OBJECT is a buffer index or a tensor index

# What `validate` adds to a view's words: [address + X_LOW, address + X_HIGH) is what a view touches and must lie in
# [X_BEGIN, X_END), the object it names; X_ITEM bytes an element, X_COUNT elements.
VX_WORDS = 24
X_LOW, X_HIGH, X_ITEM, X_BEGIN, X_END, X_COUNT = 16, 17, 18, 19, 20, 21

# --- exprs: sum of coef * param[p] plus sum of coef * loop term; row 0 is zero ------------------------------------
# loop term = (mul * i + add) mod `mod`, with i the trip count of the loop at nesting level `depth` (mod 0 = no mod).
EXPR_PARAMS, EXPR_LOOPS, EXPR_LOOP_WORDS = 3, 4, 5
E_NPARAMS, E_NLOOPS, E_PARAMS = 0, 1, 2  # E_PARAMS + 2*j: param index, coef
E_LOOPS = E_PARAMS + 2 * EXPR_PARAMS  # E_LOOPS + 5*j: depth, coef, mul, add, mod
L_DEPTH, L_COEF, L_MUL, L_ADD, L_MOD = 0, 1, 2, 3, 4
EXPR_WORDS = E_LOOPS + EXPR_LOOP_WORDS * EXPR_LOOPS  # 28
PARAM_ROW, PARAM_COL = 0, 1  # params[node, 0] is the node's logical row, params[node, 1] its column
DEPTHS = 4  # hardware loops nest at most four deep

# --- preds: an instruction takes effect when every term holds; row 0 is "always" --------------------------------
PRED_TERMS = 4
PRED_WORDS = 1 + 3 * PRED_TERMS  # count, then per term: expression id, constant, relation of (constant + expr) to 0
P_COUNT, P_TERMS = 0, 1
REL_EQ, REL_NE, REL_LT, REL_GE = 1, 2, 3, 4

# --- targets: inclusive logical rectangles; row 0 is the issuing node, row 1 every node of the program -----------
TARGET_WORDS = 8
T_ROW0, T_ROW1, T_COL0, T_COL1 = 0, 2, 4, 6  # each: constant, expression id
TARGET_SELF, TARGET_ALL = 0, 1

# --- shards: untimed preloads (tensor to SRAM before the start) and collects (SRAM to tensor after the end) -------
SHARD_WORDS = 9
H_ROLE, H_DIRECTION, H_DST, H_SRC, H_LINE = 0, 1, 2, 5, 8  # H_DST and H_SRC: view id, byte address, expression id
DIR_PRELOAD, DIR_COLLECT = 0, 1
