"""RPG: long semantic IDs predicted in parallel (Hou et al., KDD 2025, arXiv 2506.05781).

One Transformer pass over a history gives m independent distributions over K codes; an item's
score is the sum of its m log-probabilities. Written from the paper, with four changes that the
docs (docs/models.md) give the reasons for: packed rows, heads at target positions only, item
vectors of unit scale, and no random start anywhere.

Legend of shapes: N items, m digits, K codes a digit, d width, B histories, T targets, J digits of
a block.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from tesserec.errors import ArtifactError, TesserecError
from tesserec.models.backbone import INIT_STD, Backbone
from tesserec.models.digit_heads import Forward, block_backward, block_forward, block_logits
from tesserec.models.files import SHAPE, WEIGHTS, save_model
from tesserec.models.frozen import FrozenBackbone, FrozenDigits, padded, warm_up
from tesserec.models.item_loss import START_SCALE, candidates, item_backward
from tesserec.models.packed import Batch, Packed, pack
from tesserec.models.trainable import Trainable

if TYPE_CHECKING:
    from tesserec.config import RunConfig, TrainingConfig

POSITIONS = 50  # items of history that the model reads
DIGIT_BLOCK = 4  # digits handled at once: [4, 1500, 448] stays in cache, [32, 1500, 448] does not


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the weights need to be read."""

    digits: int
    codebook_size: int
    dim: int = 448
    layers: int = 2
    heads: int = 4
    ffn: int = 1024
    positions: int = POSITIONS
    temperature: float = 0.03
    dropout: float = 0.4
    token_dropout: float = 0.0  # share of an item's codes that training hides in a history
    item_dropout: float = 0.0  # share of a history's items that it hides whole
    item_loss: float = 0.0  # weight of the cross-entropy over items (item_loss.py); 0: as released
    negatives: int = 1024  # items drawn a step for it
    id_vectors: int = 0  # items that have a vector of their own beside their codes' (N at training)
    id_dropout: float = 0.3  # share of a history's items whose own vector training leaves out
    item_scale: str = (
        "sqrt"  # sqrt: sum / sqrt(m), as large as one token; mean: sum / m, as released
    )


class RPG(Trainable):
    """History of items -> log-probabilities of the next item's m codes."""

    name: ClassVar[str] = "rpg"
    needs_codes: ClassVar[bool] = True
    codes: torch.Tensor

    def __init__(self, shape: Shape, codes: np.ndarray, *, seed: int = 0) -> None:
        """`codes` is the code table, uint8/uint16 [N, m]; it isn't part of the weights."""
        super().__init__()
        _check_codes(shape, codes)
        self.shape = shape
        self._frozen: tuple[FrozenBackbone, FrozenDigits] | None = None
        self.tokens = nn.Parameter(torch.empty(shape.digits, shape.codebook_size, shape.dim))
        self.head_weight = nn.Parameter(torch.zeros(shape.digits, shape.dim, shape.dim))
        self.head_bias = nn.Parameter(torch.zeros(shape.digits, shape.dim))
        self.backbone = Backbone(
            dim=shape.dim,
            layers=shape.layers,
            heads=shape.heads,
            ffn=shape.ffn,
            positions=shape.positions,
            dropout=shape.dropout,
        )
        if shape.id_vectors:
            self.ids = nn.Parameter(torch.zeros(shape.id_vectors, shape.dim))
        if shape.item_loss:
            self.item_log_scale = nn.Parameter(torch.tensor(START_SCALE).log())
        generator = torch.Generator().manual_seed(seed)
        nn.init.normal_(self.tokens, std=INIT_STD, generator=generator)
        self.backbone.initialise(generator)
        table = torch.from_numpy(codes.astype(np.int32))
        self.register_buffer("codes", table, persistent=False)

    # ---- history -> hidden ----

    def _index(self, items: torch.Tensor) -> torch.Tensor:
        """Item rows [n] -> int32 [n, m], rows of the m * K codes."""
        m, size, _ = self.tokens.shape
        return self.codes[items] + torch.arange(m, device=items.device, dtype=torch.int32) * size

    def item_vectors(
        self, items: torch.Tensor, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Item rows [...] -> [..., d]: the scaled sum of their token vectors.

        `weights` [n, m] of the tokens of each of the n items; None: all 1.
        """
        m, size, dim = self.tokens.shape
        table, index = self.tokens.view(m * size, dim), self._index(items.reshape(-1))
        total = F.embedding_bag(index, table, mode="sum", per_sample_weights=weights)
        scale = m**-0.5 if self.shape.item_scale == "sqrt" else 1.0 / m
        return (total * scale).view(*items.shape, dim)

    def _hidden_tokens(self, items: int) -> torch.Tensor | None:
        """Weights [items, m] that hide tokens and items at random; those left make up for tokens.

        Masked histories: what is left of an item has to stand for it, so that the model can't
        learn single items by heart (docs/log.md).
        """
        shape = self.shape
        if not self.training or not (shape.token_dropout or shape.item_dropout):
            return None
        device = self.tokens.device
        weights = (torch.rand(items, shape.digits, device=device) >= shape.token_dropout).float()
        weights *= shape.digits / weights.sum(1, keepdim=True).clamp_min(1)
        return weights * (torch.rand(items, 1, device=device) >= shape.item_dropout)

    def _own_vectors(self, items: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        """Vectors [..., d] of items by themselves; 0 of those that training never saw.

        They begin at 0 and without a gradient stay there; items newer than the model have none.
        Training leaves out some, so that an item's codes learn to do without, and all of those that
        `weights` hide.
        """
        shown = items < self.shape.id_vectors
        own = F.embedding(items.clamp_max(self.shape.id_vectors - 1), self.ids)
        if self.training:
            shown = shown & (torch.rand(items.shape, device=items.device) >= self.shape.id_dropout)
        if weights is not None:
            shown = shown & (weights > 0).any(1).view(items.shape)
        return own * shown[..., None]

    def input_vectors(self, items: torch.Tensor) -> torch.Tensor:
        """Item rows [...] -> [..., d]: what the backbone reads, with its gaps while training."""
        weights = self._hidden_tokens(items.numel())
        vectors = self.item_vectors(items, weights)
        if self.shape.id_vectors:
            vectors = vectors + self._own_vectors(items, weights)
        return vectors

    def hidden(self, packed: Packed) -> torch.Tensor:
        """[R, W, d]"""
        vectors = self.input_vectors(packed.items)
        return self.backbone(vectors, packed.positions, packed.mask())

    # ---- hidden -> digits ----

    def _logits(self, s_Td: torch.Tensor, part: slice) -> torch.Tensor:
        """[J, T, K]"""
        heads = (self.tokens[part], self.head_weight[part], self.head_bias[part])
        return block_logits(s_Td, *heads, self.shape.temperature)

    def _blocks(self) -> Iterator[slice]:
        for start in range(0, self.shape.digits, DIGIT_BLOCK):
            yield slice(start, min(start + DIGIT_BLOCK, self.shape.digits))

    def log_probabilities(self, s_Td: torch.Tensor) -> torch.Tensor:
        """[T, m, K]"""
        shape = (len(s_Td), self.shape.digits, self.shape.codebook_size)
        out = torch.empty(shape, device=s_Td.device)
        for part in self._blocks():
            logits = self._logits(s_Td, part)
            out[:, part] = F.log_softmax(logits, dim=-1).transpose(0, 1)
        return out

    def loss(self, batch: Batch, smoothing: float = 0.0) -> torch.Tensor:
        """Mean cross-entropy over targets and digits, and with `item_loss` that over items.

        As one graph; training uses `backward`.
        """
        s_Td = self.hidden(batch.inputs).flatten(0, 1).index_select(0, batch.target_at)
        codes_mT = self.codes[batch.target_items].t().long()
        logits = torch.cat([self._logits(s_Td, part) for part in self._blocks()])
        digits = F.cross_entropy(
            logits.flatten(0, 1), codes_mT.flatten(), label_smoothing=smoothing
        )
        if not self.shape.item_loss:
            return digits
        index, place = self._candidates(batch)
        table = F.log_softmax(logits, dim=-1).transpose(1, 2).reshape(-1, len(s_Td))
        sums_CT = F.embedding_bag(index, table, mode="sum")
        items = F.cross_entropy((sums_CT * self.item_log_scale.exp()).t(), place)
        return digits + self.shape.item_loss * items

    def backward(self, batch: Batch, smoothing: float = 0.0, *, bf16: bool = False) -> torch.Tensor:
        """Add the gradient of `loss` to every parameter's `.grad` and return the loss.

        Digits go in blocks, each backwards before the next goes forwards, so that memory holds one
        block's [J, T, K]; only the loss over items needs the forward results of all of them. With
        `bf16` matrix products are in bfloat16.
        """
        device = self.tokens.device
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            s_Td = self.hidden(batch.inputs).flatten(0, 1).index_select(0, batch.target_at)
        codes_mT = self.codes[batch.target_items].t().long().contiguous()
        heads = (self.tokens, self.head_weight, self.head_bias)
        gradients = [_gradient(p) for p in heads]
        inner = s_Td.detach().to(torch.bfloat16 if bf16 else torch.float32)
        total, ds_Td = torch.zeros((), device=device), torch.zeros_like(s_Td)
        done = (self._forward(inner, part) for part in self._blocks())
        extra: torch.Tensor | None = None
        if self.shape.item_loss:
            all_done = list(done)
            loss, extra = self._item_backward(batch, [d.log_p for d in all_done])
            total += self.shape.item_loss * loss
            done = iter(all_done)
        for part, forward in zip(self._blocks(), done, strict=True):
            total += block_backward(
                inner,
                forward,
                (gradients[0][part], gradients[1][part], gradients[2][part]),
                ds_Td,
                codes_mT[part],
                temperature=self.shape.temperature,
                smoothing=smoothing,
                scale=1.0 / codes_mT.numel(),
                d_log_p=None if extra is None else extra[part],
            )
        s_Td.backward(ds_Td)
        return total

    def _forward(self, s_Td: torch.Tensor, part: slice) -> Forward:
        heads = (self.tokens[part], self.head_weight[part], self.head_bias[part])
        return block_forward(s_Td, heads, self.shape.temperature)

    def _candidates(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Code rows of the candidates, int32 [C, m], and the place of each target, int64 [T]."""
        rows, place = candidates(batch.target_items, len(self.codes), self.shape.negatives)
        return self._index(rows), place

    def _item_backward(
        self, batch: Batch, log_p: list[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss over items and `item_loss` times its gradient of all log-probabilities."""
        digits, targets, size = self.shape.digits, len(batch.target_items), self.shape.codebook_size
        table = torch.empty((digits, size, targets), device=log_p[0].device)
        for part, block in zip(self._blocks(), log_p, strict=True):
            table[part] = block.transpose(1, 2)
        index, place = self._candidates(batch)
        loss, d_table, d_scale = item_backward(
            table.view(digits * size, targets), index, place, self.item_log_scale
        )
        _gradient(self.item_log_scale).add_(d_scale, alpha=self.shape.item_loss)
        return loss, d_table.mul_(self.shape.item_loss).view(table.shape).transpose(1, 2)

    # ---- what decoders and releases need ----

    @torch.inference_mode()
    def state(self, histories: Sequence[np.ndarray]) -> torch.Tensor:
        """Token log-probabilities [B, m, K] after each history.

        Histories are item rows, oldest first; the last 50 are read.

        Raises:
            TesserecError: a history is empty; there is nothing to predict from.
        """
        cut = [np.asarray(h, dtype=np.int64)[-self.shape.positions :] for h in histories]
        if any(len(h) == 0 for h in cut):
            raise TesserecError("a history holds no known item; answer with popular items instead")
        if not cut:
            return torch.empty((0, self.shape.digits, self.shape.codebook_size))
        device = self.tokens.device
        packed, starts = pack(cut)
        last = torch.from_numpy(starts + np.array([len(h) - 1 for h in cut])).to(device)
        if self._frozen is not None:
            backbone, digits = self._frozen
            packed, last = padded(packed, last)
            vectors = self.input_vectors(packed.items)
            return digits(backbone.last(vectors, packed, last))[: len(cut)]
        was_training = self.training
        self.eval()
        s_Bd = self.hidden(packed.to(device)).flatten(0, 1)[last]
        out = self.log_probabilities(s_Bd)
        self.train(was_training)
        return out

    def grown(self, codes: np.ndarray) -> RPG:
        """The same weights, not copied, for a code table that may have grown; self if it hasn't."""
        _check_codes(self.shape, codes)
        table = torch.from_numpy(codes.astype(np.int32))
        if torch.equal(table, self.codes):
            return self
        other = copy.copy(self)
        other._buffers = {**self._buffers, "codes": table}
        return other

    def freeze(self) -> None:
        """Make `state` quick for weights that don't change any more; `train` undoes it."""
        if self._frozen is None and self.tokens.device.type == "cpu":
            heads = (self.tokens, self.head_weight, self.head_bias)
            digits = FrozenDigits(*heads, self.shape.temperature)
            self._frozen = FrozenBackbone(self.backbone), digits

    def warm(self) -> None:
        """Do once what the first requests would wait for."""
        if self._frozen is not None:
            warm_up(self.state)

    def train(self, mode: bool = True) -> Self:
        if mode:
            self._frozen = None
        return super().train(mode)

    def save(self, folder: Path) -> None:
        """Write weights and shape; equal weights give equal bytes."""
        save_model(self, self.name, self.shape, folder)

    @classmethod
    def load(cls, folder: Path, codes: np.ndarray) -> RPG:
        """`read` of a folder that `save` wrote."""
        return cls.read(folder / SHAPE, folder / WEIGHTS, codes)

    @classmethod
    def read(cls, shape: Path, weights: Path, codes: np.ndarray) -> RPG:
        """Read a saved model, for a code table that may have grown since.

        Raises:
            ArtifactError: the files are missing, damaged, or made for another kind of code table.
        """
        try:
            fields = json.loads(shape.read_text())
            model = cls(Shape(**fields["shape"]), codes)
            model.load_state_dict(load_file(weights))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ArtifactError(f"{weights.parent} holds no readable RPG model: {error}") from None
        return model.eval()

    # ---- what a run makes it of ----

    @staticmethod
    def recipe(config: RunConfig) -> dict[str, Any]:
        """What of the configuration the untrained model depends on."""
        settings = asdict(config.model) | {"name": "rpg"}
        return {"model": settings, "codebook_size": config.tokenizer.codebook_size}

    @staticmethod
    def schedule(config: RunConfig) -> TrainingConfig:
        """How it is to be trained."""
        return config.training

    @classmethod
    def new(cls, config: RunConfig, codes: np.ndarray, trained: np.ndarray) -> RPG:
        """An untrained model for a code table [N, m]; it can tell of all items."""
        del trained
        settings = asdict(config.model)
        del settings["name"]
        settings["id_vectors"] = len(codes) if config.model.id_vectors else 0
        size = config.tokenizer.codebook_size
        shape = Shape(digits=codes.shape[1], codebook_size=size, **settings)
        return cls(shape, codes, seed=config.seed)


def _gradient(parameter: nn.Parameter) -> torch.Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _check_codes(shape: Shape, codes: np.ndarray) -> None:
    if codes.ndim != 2 or codes.shape[1] != shape.digits:
        raise ArtifactError(
            f"the code table has shape {list(codes.shape)}, the model was made for {shape.digits} "
            "digits; use the code table of the same release"
        )
    if len(codes) < shape.id_vectors:
        raise ArtifactError(
            f"the code table has {len(codes)} items, the model was trained with "
            f"{shape.id_vectors}; use the code table of the same release"
        )
    if codes.size and int(codes.max()) >= shape.codebook_size:
        raise ArtifactError(
            f"the code table holds code {int(codes.max())}, the model knows {shape.codebook_size} "
            "a digit; use the code table of the same release"
        )
