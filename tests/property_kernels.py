"""Kernels for the tests of `kernel_property`: right ones, and one for each thing that may be wrong."""

from __future__ import annotations

import numpy as np

import accel


@accel.kernel
def scaled(k, x, y, *, factor, bm=2):
    """y = factor * x, in tiles of bm rows on node (0, 0)."""
    tile, loaded, stored = k.sram((bm, x.shape[1]), x.dtype, "tile"), k.sem(name="loaded"), k.sem(name="stored")
    if k.row + k.col != 0:
        return

    @k.thread
    def work():
        for i in range(0, x.shape[0], bm):
            h = min(bm, x.shape[0] - i)
            k.copy(tile[:h], x[i : i + h], done=loaded)
            k.wait(loaded)
            k.vec.mul(tile[:h], tile[:h], factor)
            k.copy(y[i : i + h], tile[:h], sent=stored)
            k.wait(stored)


def times(x, factor):
    return x * np.asarray(factor, x.dtype)


@accel.kernel
def loses_a_column(k, x, y):
    """y = 2 x, but the sixth and later columns are left as they are."""
    tile, done = k.sram(x.shape, "fp32", "tile"), k.sem(name="done")
    if k.row + k.col != 0:
        return
    k.copy(tile, x, done=done)
    k.wait(done)
    n = min(5, x.shape[1])
    k.vec.mul(tile[:, :n], tile[:, :n], 2.0)
    k.copy(y, tile, sent=done)
    k.wait(done)


@accel.kernel
def hasty(k, x, y):
    """Reads before its copy is done."""
    tile, done = k.sram(x.shape, "fp32", "tile"), k.sem(name="done")
    if k.row + k.col != 0:
        return
    k.copy(tile, x, done=done)
    k.vec.neg(tile, tile)
    k.wait(done)
    k.copy(y, tile, sent=done)
    k.wait(done)


@accel.kernel
def shifted(k, x, y):
    """y = x + 1, which is not linear."""
    tile, done = k.sram(x.shape, x.dtype, "tile"), k.sem(name="done")
    if k.row + k.col != 0:
        return
    k.copy(tile, x, done=done)
    k.wait(done)
    k.vec.add(tile, tile, 1.0)
    k.copy(y, tile, sent=done)
    k.wait(done)


@accel.kernel
def row_sums(k, x, y):
    """y[i] = sum of row i of x, with the vector unit's sixteen chains."""
    tile, out, done = k.sram(x.shape, x.dtype, "tile"), k.sram(y.shape, y.dtype, "out"), k.sem(name="done")
    if k.row + k.col != 0:
        return
    k.copy(tile, x, done=done)
    k.wait(done)
    k.vec.reduce_sum(out, tile)
    k.copy(y, out, sent=done)
    k.wait(done)


@accel.kernel
def spread(k, gy, gx):
    """The gradient of `row_sums`: every element of a row of gx is gy of that row."""
    seed, out, done = k.sram(gy.shape, gy.dtype, "seed"), k.sram(gx.shape, gx.dtype, "out"), k.sem(name="done")
    if k.row + k.col != 0:
        return
    k.copy(seed, gy, done=done)
    k.wait(done)
    k.vec.fill(out, 0.0)
    k.vec.add(out, out, seed)
    k.copy(gx, out, sent=done)
    k.wait(done)


@accel.kernel
def spread_wrong(k, gy, gx):
    """As `spread`, but the first column is left out."""
    seed, out, done = k.sram(gy.shape, gy.dtype, "seed"), k.sram(gx.shape, gx.dtype, "out"), k.sem(name="done")
    if k.row + k.col != 0:
        return
    k.copy(seed, gy, done=done)
    k.wait(done)
    k.vec.fill(out, 0.0)
    k.vec.add(out[:, 1:], out[:, 1:], seed)
    k.copy(gx, out, sent=done)
    k.wait(done)


@accel.kernel
def mesh_dependent(k, x, y):
    """y = x + the number of columns of the mesh: each mesh gives other bits."""
    tile, done = k.sram(x.shape, "fp32", "tile"), k.sem(name="done")
    columns = k.mesh[1]
    if k.row + k.col != 0:
        return
    k.copy(tile, x, done=done)
    k.wait(done)
    k.vec.add(tile, tile, float(columns))
    k.copy(y, tile, sent=done)
    k.wait(done)


@accel.kernel
def mixes_rows(k, x, y):
    """y = x, but the first row has the last one added: rows depend on each other."""
    tile, done = k.sram(x.shape, "fp32", "tile"), k.sem(name="done")
    if k.row + k.col != 0:
        return
    k.copy(tile, x, done=done)
    k.wait(done)
    if x.shape[0] > 1:
        k.vec.add(tile[0], tile[0], tile[x.shape[0] - 1])
    k.copy(y, tile, sent=done)
    k.wait(done)
