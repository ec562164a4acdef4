"""SASRec: one vector an item, for input and output (Kang & McAuley, ICDM 2018, arXiv 1808.09781).

Trained with the softmax over the whole catalogue instead of the paper's one negative, which is
what makes it strong (docs/models.md). The same backbone and packed rows as RPG; every position
predicts the next item. There are vectors only for items that occur in training: it has nothing to
say about others.

Legend of shapes: N items of the catalogue, V items with a vector, d width, B histories, T targets.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from tesserec.decoders.scorers import VectorScorer
from tesserec.errors import ArtifactError, TesserecError
from tesserec.models.backbone import INIT_STD, Backbone
from tesserec.models.catalogue_softmax import softmax_backward
from tesserec.models.files import SHAPE, WEIGHTS, save_model
from tesserec.models.frozen import FrozenBackbone, padded, warm_up
from tesserec.models.packed import Batch, Packed, pack
from tesserec.models.trainable import Trainable

if TYPE_CHECKING:
    from tesserec.config import RunConfig, TrainingConfig

LAST = -1e9  # the score of an item without a vector: it can still be shown, after all others
POSITIONS = 50  # items of history that the model reads


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the weights need to be read."""

    items: int  # N when it was trained; the catalogue may have grown since
    dim: int = 64
    layers: int = 2
    heads: int = 2
    ffn: int = 256
    positions: int = POSITIONS
    dropout: float = 0.5
    negatives: int = 0  # of the sampled softmax; 0: all items


class SASRec(Trainable):
    """History of items -> a vector whose inner product with an item's is that item's logit."""

    name: ClassVar[str] = "sasrec"
    needs_codes: ClassVar[bool] = False
    trained: torch.Tensor
    id_of: torch.Tensor

    def __init__(
        self, shape: Shape, trained: np.ndarray, *, items: int | None = None, seed: int = 0
    ) -> None:
        """`trained` is bool [N]: the items that occur in training sequences; `items` of the
        catalogue now, if it has grown.

        Raises:
            ArtifactError: the catalogue has fewer items than it had.
        """
        super().__init__()
        self.shape = shape
        self._frozen: FrozenBackbone | None = None
        self.items = shape.items if items is None else items
        _check_items(shape, self.items)
        known = np.asarray(trained, dtype=bool)
        self._known = np.zeros(self.items, dtype=bool)
        self._known[: shape.items] = known
        self.register_buffer("trained", torch.from_numpy(np.packbits(known, bitorder="little")))
        ids = np.where(known, np.cumsum(known) - 1, -1).astype(np.int64)
        self.register_buffer("id_of", torch.from_numpy(ids), persistent=False)
        self.vectors = nn.Parameter(torch.empty(int(known.sum()), shape.dim))
        self.backbone = Backbone(
            dim=shape.dim,
            layers=shape.layers,
            heads=shape.heads,
            ffn=shape.ffn,
            positions=shape.positions,
            dropout=shape.dropout,
        )
        generator = torch.Generator().manual_seed(seed)
        nn.init.normal_(self.vectors, std=INIT_STD, generator=generator)
        self.backbone.initialise(generator)

    # ---- training ----

    def hidden(self, inputs: Packed) -> torch.Tensor:
        """[R, W, d] of packed items that all have a vector."""
        # where a row is empty stands item 0, which need not have one; nothing looks there
        ids_RW = self.id_of[inputs.items].clamp_min(0)
        vectors = F.embedding(ids_RW, self.vectors)
        return self.backbone(vectors, inputs.positions, inputs.mask())

    def loss(self, batch: Batch, smoothing: float = 0.0) -> torch.Tensor:
        """Mean cross-entropy over targets, as one graph (training uses `backward`)."""
        s_Td = self.hidden(batch.inputs).flatten(0, 1).index_select(0, batch.target_at)
        targets = self.id_of[batch.target_items]
        if not self.shape.negatives:
            return F.cross_entropy(s_Td @ self.vectors.t(), targets, label_smoothing=smoothing)
        return self._sampled(s_Td, targets, smoothing)

    def backward(self, batch: Batch, smoothing: float = 0.0, *, bf16: bool = False) -> torch.Tensor:
        """Add the gradient of `loss` to every parameter's `.grad` and return the loss.

        With `bf16` matrix products are in bfloat16.
        """
        with torch.autocast(self.vectors.device.type, dtype=torch.bfloat16, enabled=bf16):
            if self.shape.negatives:
                loss = self.loss(batch, smoothing)
                loss.backward()
                return loss.detach()
            s_Td = self.hidden(batch.inputs).flatten(0, 1).index_select(0, batch.target_at)
        if self.vectors.grad is None:
            self.vectors.grad = torch.zeros_like(self.vectors)
        loss, ds_Td = softmax_backward(
            s_Td.detach().to(torch.bfloat16 if bf16 else torch.float32),
            self.vectors.detach(),
            self.vectors.grad,
            self.id_of[batch.target_items],
            smoothing=smoothing,
            scale=1.0 / len(batch.target_items),
        )
        s_Td.backward(ds_Td.to(s_Td.dtype))
        return loss

    def _sampled(self, s_Td: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
        """Cross-entropy over the target and uniform negatives, drawn once for the whole batch.

        Uniform draws need no correction of the logits. A draw that is a row's target doesn't count.
        """
        drawn = torch.randint(
            len(self.vectors), (self.shape.negatives,), device=self.vectors.device
        )
        z = torch.cat(
            [
                (s_Td * F.embedding(targets, self.vectors)).sum(1, keepdim=True),
                s_Td @ F.embedding(drawn, self.vectors).t(),
            ],
            dim=1,
        ).float()
        hit = F.pad(drawn == targets[:, None], (1, 0))
        log_p = F.log_softmax(z.masked_fill(hit, -torch.inf), dim=1)
        others = log_p[:, 1:].masked_fill(hit[:, 1:], 0.0).sum(1) / self.shape.negatives
        return -((1 - smoothing) * log_p[:, 0] + smoothing * others).mean()

    # ---- what decoders and releases need ----

    @torch.inference_mode()
    def state(self, histories: Sequence[np.ndarray]) -> torch.Tensor:
        """User vectors float32 [B, d] after each history (item rows, oldest first).

        Items without a vector are left out; of the others the last 50 are read. With none left the
        vector is the last norm's bias: what all users have in common.

        Raises:
            TesserecError: a history is empty; there is nothing to predict from.
        """
        if any(len(h) == 0 for h in histories):
            raise TesserecError("a history holds no known item; answer with popular items instead")
        device = self.vectors.device
        known = self.known()
        kept = [np.asarray(h, dtype=np.int64) for h in histories]
        kept = [h[known[h]][-self.shape.positions :] for h in kept]
        out = self.backbone.norm.bias.float().repeat(len(kept), 1)
        asked = [i for i, h in enumerate(kept) if len(h)]
        if not asked:
            return out
        packed, starts = pack([kept[i] for i in asked])
        last = torch.from_numpy(starts + np.array([len(kept[i]) - 1 for i in asked])).to(device)
        if self._frozen is not None:
            packed, last = padded(packed, last)
            vectors = F.embedding(self.id_of[packed.items].clamp_min(0), self.vectors)
            out[asked] = self._frozen.last(vectors, packed, last)[: len(asked)]
            return out
        was_training = self.training
        self.eval()
        s_Bd = self.hidden(packed.to(device)).flatten(0, 1)[last]
        self.train(was_training)
        out[asked] = s_Bd.float()
        return out

    def grown(self, items: int) -> SASRec:
        """The same weights, not copied, for a catalogue that may have grown; self if it hasn't.

        Raises:
            ArtifactError: the catalogue has fewer items than in training.
        """
        if items == self.items:
            return self
        _check_items(self.shape, items)
        other = copy.copy(self)
        other.items, other._known = items, np.zeros(items, dtype=bool)
        other._known[: self.shape.items] = self._known[: self.shape.items]
        return other

    def freeze(self) -> None:
        """Make `state` quick for weights that don't change any more; `train` undoes it."""
        if self._frozen is None and self.vectors.device.type == "cpu":
            self._frozen = FrozenBackbone(self.backbone)

    def warm(self) -> None:
        """Do once what the first requests would wait for."""
        if self._frozen is not None:
            warm_up(self.state)

    def train(self, mode: bool = True) -> Self:
        if mode:
            self._frozen = None
        return super().train(mode)

    def scorer(self) -> VectorScorer:
        """Inner products with the user's vector; items without a vector come last, by row."""
        ids = torch.from_numpy(np.flatnonzero(self.known())).to(self.vectors.device)
        vectors = self.vectors.new_zeros((self.items, self.shape.dim))
        bias = self.vectors.new_full((self.items,), LAST)
        vectors[ids], bias[ids] = self.vectors.detach().float(), 0.0
        return VectorScorer(vectors, bias)

    def known(self) -> np.ndarray:
        """bool [N]: which rows of the catalogue as it is now have a vector."""
        return self._known

    def save(self, folder: Path) -> None:
        """Write weights and shape; equal weights give equal bytes."""
        save_model(self, self.name, self.shape, folder)

    @classmethod
    def load(cls, folder: Path, items: int | None = None) -> SASRec:
        """`read` of a folder that `save` wrote."""
        return cls.read(folder / SHAPE, folder / WEIGHTS, items)

    @classmethod
    def read(cls, shape: Path, weights: Path, items: int | None = None) -> SASRec:
        """Read a saved model, for a catalogue that has `items` rows now.

        Raises:
            ArtifactError: the files are missing or damaged, or the catalogue has shrunk.
        """
        try:
            made = Shape(**json.loads(shape.read_text())["shape"])
            tensors = load_file(weights)
            bits = np.unpackbits(tensors["trained"].numpy(), count=made.items, bitorder="little")
            model = cls(made, bits.astype(bool), items=items)
            model.load_state_dict(tensors)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ArtifactError(
                f"{weights.parent} holds no readable SASRec model: {error}"
            ) from None
        return model.eval()

    # ---- what a run makes it of ----

    @staticmethod
    def recipe(config: RunConfig) -> dict[str, Any]:
        """What of the configuration the untrained model depends on."""
        shape = asdict(config.sasrec)
        del shape["training"]
        return {"model": {"name": "sasrec", **shape}}

    @staticmethod
    def schedule(config: RunConfig) -> TrainingConfig:
        """How it is to be trained."""
        return config.sasrec.training

    @classmethod
    def new(cls, config: RunConfig, codes: np.ndarray | None, trained: np.ndarray) -> SASRec:
        """An untrained model for items that occur in training (`trained`, bool [N])."""
        del codes
        settings = cls.recipe(config)["model"]
        del settings["name"]
        return cls(Shape(items=len(trained), **settings), trained, seed=config.seed)


def _check_items(shape: Shape, items: int) -> None:
    if items < shape.items:
        raise ArtifactError(
            f"the catalogue has {items} items, the model was trained with {shape.items}; "
            "use the items of the same release"
        )
