"""Which edges of old items new items take over, compiled and exact.

A first pass adds up similarities rounded to 8 bits, 64 new items side by side. It errs by at most
half a step a digit; what it can't exclude is added up in float32, digits in order.
Legend of shapes: N items, m digits, K codes a digit, k edges.
"""

from __future__ import annotations

import numpy as np

from tesserec.decoders.graph_walk import compiled, key_of, row_of, value_of

WIDTH = 64  # new items side by side: one line of cache holds a code's similarity to all of them
BLOCK = 32  # old items compared before they are looked through


@compiled
def new_edges(similar, coarse, step, codes, edges, queries):
    """Pairs (old item, new item) int64 [P, 2] where the new one beats the old one's weakest edge.

    Args:
        similar: float32 [m, K, K], symmetric, not negative. coarse: uint8 of the same shape, and
        step: similar is `similar.min() + step * coarse`, within step / 2. codes: [N + new, m].
        edges: int32 [N, k], of the old items. queries: at most 64 new rows.
    """
    digits, size = similar.shape[0], similar.shape[1]
    tables = np.empty((digits, size, WIDTH), dtype=np.uint8)
    scores = np.empty((BLOCK, WIDTH), dtype=np.uint16)
    _lay_out(coarse, codes, queries, tables)
    low, last, count = similar.min(), edges.shape[1] - 1, 0
    pairs = np.empty((1024, 2), dtype=np.int64)
    for start in range(0, len(edges), BLOCK):
        stop = min(start + BLOCK, len(edges))
        _score(tables, codes, start, stop, scores)
        for item in range(start, stop):
            weakest, need = np.uint64(0), np.int64(0)
            if edges[item, last] >= 0:
                weakest = _pair_key(similar, codes, item, np.int64(edges[item, last]))
                need = _needed(np.float64(value_of(weakest)), low, step, digits)
            for w in range(len(queries)):
                if scores[item - start, w] < need:
                    continue
                if _pair_key(similar, codes, item, queries[w]) > weakest:
                    if count == len(pairs):
                        pairs = np.concatenate((pairs, np.empty_like(pairs)))
                    pairs[count, 0], pairs[count, 1] = item, queries[w]
                    count += 1
    return pairs[:count]


@compiled
def add_edges(similar, codes, edges, pairs):
    """Put each pair's new item in its place among the old one's edges; the weakest drops out."""
    width = edges.shape[1]
    keys = np.empty(width, dtype=np.uint64)
    for index in range(len(pairs)):
        item, new = pairs[index]
        for place in range(width):
            row = np.int64(edges[item, place])
            keys[place] = _pair_key(similar, codes, item, row) if row >= 0 else np.uint64(0)
        key = _pair_key(similar, codes, item, new)
        place = width - 1
        if key <= keys[place]:
            continue
        while place > 0 and keys[place - 1] < key:
            edges[item, place] = edges[item, place - 1]
            place -= 1
        edges[item, place] = row_of(key)


@compiled
def _lay_out(coarse, codes, queries, tables):
    """tables[j, a, w]: how like code a of digit j is to that of query w."""
    digits, size = coarse.shape[0], coarse.shape[1]
    own = np.zeros(WIDTH, dtype=np.int64)
    for j in range(digits):
        for w in range(len(queries)):
            own[w] = codes[queries[w], j]
        for a in range(size):
            row = coarse[j, a]
            for w in range(WIDTH):
                tables[j, a, w] = row[own[w]]


@compiled
def _score(tables, codes, start, stop, out):
    """out[i, w]: rounded similarity of item start + i and query w; digits in order."""
    digits = codes.shape[1]
    whole = digits - digits % 8
    for i in range(start, stop):
        line, item = out[i - start], codes[i]
        for w in range(WIDTH):
            line[w] = 0
        # eight digits a turn: the sums are read and written once instead of eight times
        for j in range(0, whole, 8):
            a, b = tables[j, item[j]], tables[j + 1, item[j + 1]]
            c, d = tables[j + 2, item[j + 2]], tables[j + 3, item[j + 3]]
            e, f = tables[j + 4, item[j + 4]], tables[j + 5, item[j + 5]]
            g, h = tables[j + 6, item[j + 6]], tables[j + 7, item[j + 7]]
            for w in range(WIDTH):
                more = a[w] + b[w] + c[w] + d[w] + e[w] + f[w] + g[w] + h[w]
                line[w] = np.uint16(line[w] + more)
        for j in range(whole, digits):
            a = tables[j, item[j]]
            for w in range(WIDTH):
                line[w] = np.uint16(line[w] + a[w])


@compiled
def _pair_key(similar, codes, query, row):
    """The key of an item's similarity to a query."""
    value = np.empty(1, dtype=np.float32)
    value[0] = _similarity(similar, codes, query, row)
    return key_of(value.view(np.uint32), row)


@compiled
def _similarity(similar, codes, query, row):
    total = np.float32(0)
    for j in range(codes.shape[1]):
        total += similar[j, codes[query, j], codes[row, j]]
    return total


@compiled
def _needed(least, low, step, digits):
    """The smallest rounded sum that a similarity of `least` or more can have."""
    # the last term is for float32 sums, which err by far less than a step
    return np.int64(np.floor((least - digits * low) / step - digits / 2 - 1))
