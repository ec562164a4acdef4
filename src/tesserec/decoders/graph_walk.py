"""The walk over the graph of items, compiled, and the keys that rank what it finds.

A key packs what is compared and the row into 64 bits, so that one comparison ranks by value and,
among equals, by the lowest row: whatever order candidates come in, the result is the same.
Legend of shapes: N items, m digits, K codes a digit, k edges.
"""

from __future__ import annotations

import numpy as np

from tesserec.decoders.scan_tables import kernel as compiled

LAST_ROW = 0xFFFFFFFF
SHIFT = np.uint64(32)
NEVER = -np.inf


@compiled
def key_of(bits, row):
    """The key of a row; `bits` is the uint32 view of a float32 [1] with its value."""
    # a float's bits in the order of its value: negative ones turned round
    order = bits[0] ^ np.uint32(0xFFFFFFFF if bits[0] >> 31 else 0x80000000)
    return (np.uint64(order) << SHIFT) | np.uint64(LAST_ROW - row)


@compiled
def row_of(key):
    return LAST_ROW - np.int64(key & np.uint64(LAST_ROW))


@compiled
def value_of(key):
    """The value of a key, float32."""
    bits = np.empty(1, dtype=np.uint32)
    order = np.uint32(key >> SHIFT)
    bits[0] = order ^ np.uint32(0x80000000 if order >> 31 else 0xFFFFFFFF)
    return bits.view(np.float32)[0]


@compiled
def rank_users(states, graph, starts, beam, steps, allowed, denied, out, tally):
    """The best visited items of each user that may be shown.

    Args:
        states: float32 [B, m, K]. graph: codes [N, m] and edges int32 [N, k], -1: none.
        starts, denied: each (bounds int64 [B + 1], int64 rows); those denied sorted, by user.
        allowed: packed bits, uint8 [ceil(N / 8)].
        out: rows int64 [B, n] and scores float32 [B, n], filled with -1 and -inf at the end.
        tally: int64 [B, 2]: items visited, items found.
    """
    codes, edges = graph
    room = _room(codes, edges, starts, beam, steps)
    for user in range(len(states)):
        keys, _ = walk(states[user], codes, edges, _of(starts, user), beam, steps, room)
        not_these = _of(denied, user)
        best = np.zeros(out[0].shape[1], dtype=np.uint64)
        found = 0
        for key in keys:
            if key > best[0]:
                row = row_of(key)
                if _test(allowed, row) and not _holds(not_these, row):
                    _replace_smallest(best, key)
                    found += 1
        best = np.sort(best)[::-1]
        for place in range(len(best)):
            known = best[place] != 0
            out[0][user, place] = row_of(best[place]) if known else -1
            out[1][user, place] = value_of(best[place]) if known else NEVER
        tally[user, 0], tally[user, 1] = len(keys), min(found, len(best))


@compiled
def target_ranks(states, graph, starts, beam, steps, targets, seen, kept, dropped):
    """1-based ranks of targets int64 [B] among the visited items, all and those not seen.

    0: the walk doesn't reach the target, or it is itself among the seen (`dropped` alone).
    """
    codes, edges = graph
    room = _room(codes, edges, starts, beam, steps)
    for user in range(len(states)):
        kept[user], dropped[user] = 0, 0
        if targets[user] < 0 or targets[user] >= len(codes):
            continue
        keys, _ = walk(states[user], codes, edges, _of(starts, user), beam, steps, room)
        own = np.uint64(0)
        for key in keys:
            if row_of(key) == targets[user]:
                own = key
        if own == 0:
            continue
        not_these, all_, unseen = _of(seen, user), 1, 1
        for key in keys:
            if key > own:
                all_ += 1
                unseen += not _holds(not_these, row_of(key))
        kept[user] = all_
        dropped[user] = 0 if _holds(not_these, targets[user]) else unseen


@compiled
def _of(lists, user):
    return lists[1][lists[0][user] : lists[0][user + 1]]


@compiled
def _holds(rows, row):
    place = np.searchsorted(rows, row)
    return place < len(rows) and rows[place] == row


@compiled
def _room(codes, edges, starts, beam, steps):
    """What a walk works in: bits of items seen and expanded (all zero), rows and keys visited."""
    most = 0
    for user in range(len(starts[0]) - 1):
        most = max(most, starts[0][user + 1] - starts[0][user])
    most = min(len(codes), most + steps * beam * edges.shape[1])
    bits = (len(codes) + 7) // 8
    seen, expanded = np.zeros(bits, dtype=np.uint8), np.zeros(bits, dtype=np.uint8)
    return seen, expanded, np.empty(most, dtype=np.int32), np.empty(most, dtype=np.uint64)


@compiled
def walk(table, codes, edges, starts, beam, steps, room):
    """Visit items from `starts` on, always going on from the best `beam` found so far.

    Ends after `steps`, or when a step has found nothing better. Returns the visited items' keys
    and rows; both are views of `room`.
    """
    seen, expanded, visited, keys = room
    best = np.zeros(beam, dtype=np.uint64)  # a heap, the smallest in front; 0: free
    frontier = np.empty(beam, dtype=np.int64)
    count = 0
    for row in starts:
        count = _meet(row, seen, visited, count)
    _weigh(table, codes, visited, keys, 0, count, best)
    for _ in range(steps):
        size = 0
        for key in best:
            if key != 0 and not _test(expanded, row_of(key)):
                frontier[size] = row_of(key)
                _set(expanded, frontier[size])
                size += 1
        if size == 0:
            break
        before = count
        for place in range(size):
            for row in edges[frontier[place]]:
                if row >= 0:
                    count = _meet(row, seen, visited, count)
        _weigh(table, codes, visited, keys, before, count, best)
    for row in visited[:count]:
        seen[row >> 3] = 0
        expanded[row >> 3] = 0
    return keys[:count], visited[:count]


@compiled
def _test(bits, row):
    return (bits[row >> 3] >> (row & 7)) & 1 == 1


@compiled
def _set(bits, row):
    bits[row >> 3] |= np.uint8(1 << (row & 7))


@compiled
def _meet(row, seen, visited, count):
    if _test(seen, row):
        return count
    _set(seen, row)
    visited[count] = row
    return count + 1


@compiled
def _weigh(table, codes, visited, keys, start, stop, best):
    """Score the items visited from `start` on, and keep the best in the heap."""
    digits = codes.shape[1]
    score = np.empty(1, dtype=np.float32)
    bits = score.view(np.uint32)
    for place in range(start, stop):
        row = np.int64(visited[place])
        total = np.float32(0)
        for j in range(digits):
            total += table[j, codes[row, j]]
        score[0] = total
        key = key_of(bits, row)
        keys[place] = key
        if key > best[0]:
            _replace_smallest(best, key)


@compiled
def _replace_smallest(heap, key):
    """Of a heap with the smallest in front."""
    place, size = 0, len(heap)
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if key <= heap[child]:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = key
