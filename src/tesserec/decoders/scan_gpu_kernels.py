"""Kernels of the scan on a GPU: scores of whole blocks of items, reduced where they are made.

A program takes one block of items and one group of users, a thread one item at a time. A word of
codes is read once for the group; each code in it fetches the entries of the group's users, which
lie side by side. Entries are added in the order of digits, in float32, as every decoder does it.
Words pass the first-level cache by (`.cg`): it is for tables.
Legend of shapes: m digits, K codes a digit, n blocks, W words of PER codes, G groups of SIDE users.
Kernels carry no types but `constexpr`: Triton would look the names up on the device.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from torch.nn import functional as F

from tesserec.decoders.blocks import in_blocks

SIDE = 4  # users that one code serves: their entries are one load of 16 bytes
TILE = 128  # items at a time, one for each of a program's threads: more would change hands
PAIRS = 128  # single scores that a program makes, also one a thread


class Words(NamedTuple):
    """Codes of items in blocks: words int32 [n, W, BLOCK], each with `per` digits of an item."""

    words: torch.Tensor
    per: int

    def to(self, device: torch.device) -> Words:
        return Words(self.words.to(device), self.per)


def words_of(codes: np.ndarray, size: int) -> Words:
    """Of codes uint8/uint16 [N, m] in blocks of `size`; further digits are code 0."""
    per = 4 // codes.itemsize
    filled = np.pad(codes, ((0, 0), (0, -codes.shape[1] % per)))
    return Words(torch.from_numpy(in_blocks(filled.view("<i4"), size)), per)


def side_by_side(state: torch.Tensor, codes: Words) -> torch.Tensor:
    """Tables [B, m, K] -> [G, W * PER * K, SIDE]; further digits and users are zeros.

    A user alone stays alone.
    """
    users, digits, _ = state.shape
    side = 1 if users == 1 else SIDE
    filled = F.pad(state, (0, 0, 0, -digits % codes.per, 0, -users % side)).flatten(1)
    return filled.view(-1, side, filled.shape[1]).transpose(1, 2).contiguous()


def maxima(codes: Words, tables: torch.Tensor, open_: torch.Tensor) -> torch.Tensor:
    """float32 [G * SIDE, n]: each user's best score of each block, of items that are open.

    open_ is packed, uint8 [n * BLOCK / 8].
    """
    words, (groups, _, side) = codes.words, tables.shape
    out = torch.empty((groups * side, len(words)), device=words.device)
    with torch.cuda.device_of(words):
        _maxima[len(words), groups](words, tables, open_, out, len(words), **sizes(codes, tables))
    return out


def ahead(
    codes: Words, tables: torch.Tensor, open_: torch.Tensor, own: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    """int32 [G * SIDE, n]: open items of each block that stand before a user's target.

    own float32 [B] is the target's score, target int64 [B] its row.
    """
    words, (groups, _, side) = codes.words, tables.shape
    fill = (0, groups * side - len(own))
    out = torch.empty((groups * side, len(words)), dtype=torch.int32, device=words.device)
    with torch.cuda.device_of(words):
        _ahead[len(words), groups](
            *(words, tables, open_, F.pad(own, fill), F.pad(target, fill), out, len(words)),
            **sizes(codes, tables),
        )
    return out


def scores(
    codes: Words, tables: torch.Tensor, users: torch.Tensor, rows: torch.Tensor
) -> torch.Tensor:
    """float32 [P, C]: scores of rows int64 [P, C] for users int64 [P]."""
    out, compiled = torch.empty(rows.shape, device=rows.device), sizes(codes, tables)
    compiled["TILE"] = PAIRS
    if total := out.numel():
        with torch.cuda.device_of(rows):
            _of_rows[(triton.cdiv(total, PAIRS),)](
                *(codes.words, tables, users, rows.contiguous(), out, total, rows.shape[1]),
                **compiled,
            )
    return out


def sizes(codes: Words, tables: torch.Tensor) -> dict[str, Any]:
    """What the kernels are compiled for."""
    _, words, block = codes.words.shape
    width, side = tables.shape[1] // (words * codes.per), tables.shape[2]
    shape = {"WORDS": words, "PER": codes.per, "WIDTH": width, "BLOCK": block, "SIDE": side}
    return shape | {"TILE": min(TILE, block)}


@triton.jit
def _scores(
    at,
    tables,
    WORDS: tl.constexpr,
    PER: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    SIDE: tl.constexpr,
    TILE: tl.constexpr,
    USERS: tl.constexpr,
):
    """float32 [TILE, USERS] of items whose first words are at pointers [TILE].

    tables are pointers [TILE or 1, USERS] to entry 0 of the first digit.
    """
    score = tl.zeros([TILE, USERS], tl.float32)
    for w in tl.static_range(WORDS):  # unrolled, so that all words are asked for at once
        word = tl.load(at + w * BLOCK, cache_modifier=".cg")
        for i in tl.static_range(PER):
            code = (word >> (32 // PER * i)) & ((1 << (32 // PER)) - 1)
            score += tl.load(tables + (((w * PER + i) * WIDTH + code) * SIDE)[:, None])
    return score


@triton.jit
def _tile(
    words,
    tables,
    open_,
    block,
    group,
    first,
    WORDS: tl.constexpr,
    PER: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    SIDE: tl.constexpr,
    TILE: tl.constexpr,
):
    """Scores float32 [TILE, SIDE] of items first, first + 1, ... of a block, -inf if closed."""
    item = first + tl.arange(0, TILE)
    start = block.to(tl.int64)  # more than 2^31 words are possible
    at = words + start * (WORDS * BLOCK) + item
    group_at = tables + group * (WORDS * PER * WIDTH * SIDE) + tl.arange(0, SIDE)[None, :]
    score = _scores(at, group_at, WORDS, PER, WIDTH, BLOCK, SIDE, TILE, SIDE)
    byte = tl.load(open_ + start * (BLOCK // 8) + (item >> 3)).to(tl.int32)
    return tl.where(((byte >> (item & 7)) & 1)[:, None] == 1, score, float("-inf"))


@triton.jit
def _maxima(
    words,
    tables,
    open_,
    out,
    blocks,
    WORDS: tl.constexpr,
    PER: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    SIDE: tl.constexpr,
    TILE: tl.constexpr,
):
    """Grid: n, G. The programs of a group come one after the other and share its tables."""
    block, group = tl.program_id(0), tl.program_id(1)
    best = tl.full([TILE, SIDE], float("-inf"), tl.float32)
    for first in range(0, BLOCK, TILE):
        score = _tile(
            words, tables, open_, block, group, first, WORDS, PER, WIDTH, BLOCK, SIDE, TILE
        )
        best = tl.maximum(best, score)
    user = group * SIDE + tl.arange(0, SIDE)
    tl.store(out + user.to(tl.int64) * blocks + block, tl.max(best, axis=0))


@triton.jit
def _ahead(
    words,
    tables,
    open_,
    own,
    target,
    out,
    blocks,
    WORDS: tl.constexpr,
    PER: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    SIDE: tl.constexpr,
    TILE: tl.constexpr,
):
    """Grid: n, G. Items that fill the last block stand behind every target by their row."""
    block, group = tl.program_id(0), tl.program_id(1)
    user = group * SIDE + tl.arange(0, SIDE)
    limit, place = tl.load(own + user)[None, :], tl.load(target + user)[None, :]
    count = tl.zeros([TILE, SIDE], tl.int32)
    for first in range(0, BLOCK, TILE):
        score = _tile(
            words, tables, open_, block, group, first, WORDS, PER, WIDTH, BLOCK, SIDE, TILE
        )
        row = (block.to(tl.int64) * BLOCK + first + tl.arange(0, TILE))[:, None]
        count += ((score > limit) | ((score == limit) & (row < place))).to(tl.int32)
    tl.store(out + user.to(tl.int64) * blocks + block, tl.sum(count, axis=0))


@triton.jit(do_not_specialize=["total", "each"])
def _of_rows(
    words,
    tables,
    users,
    rows,
    out,
    total,
    each,
    WORDS: tl.constexpr,
    PER: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    SIDE: tl.constexpr,
    TILE: tl.constexpr,
):
    """users has one for each `each` of the `total` rows."""
    pair = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    inside = pair < total
    row = tl.load(rows + pair, mask=inside, other=0)
    user = tl.load(users + pair // each, mask=inside, other=0)
    at = words + row // BLOCK * (WORDS * BLOCK) + row % BLOCK
    table = tables + user // SIDE * (WORDS * PER * WIDTH * SIDE) + user % SIDE
    score = _scores(at, table[:, None], WORDS, PER, WIDTH, BLOCK, SIDE, TILE, 1)
    tl.store(out + pair[:, None], score, mask=inside[:, None])
