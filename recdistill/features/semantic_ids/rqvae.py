"""Codebooks by RQ-VAE: an autoencoder whose latent is quantised level by level, all of it trained together.

Lee et al., arXiv 2203.01941, as TIGER codes items with it (arXiv 2305.05065, section 3.1). The quantiser is
vector-quantize-pytorch's: straight-through gradients, codebooks as moving averages of what falls to them, begun by
k-means, codes that nothing falls to moved to a vector of the batch. It is needed to fit only: what was fitted is coded
by :class:`recdistill.features.semantic_ids.codebooks.Codebooks` alone.

Shapes: n items, d width, z width of the latents, L levels, k codes of one of them, B rows of a step.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from recdistill.extras import need
from recdistill.features.semantic_ids.autoencoder import Autoencoder
from recdistill.features.semantic_ids.levels import in_order, means_by_code, nearest
from recdistill.training import fit, step_generator

if TYPE_CHECKING:
    from vector_quantize_pytorch import ResidualVQ

_ALONE = 0.3  # of the steps: before the codebooks begin, where latents of an untrained encoder tell little
_BEGUN_ON = 1 << 14  # items that the codebooks begin with, by k-means
_DEAD = 0.05  # of the items that each code of a level has on average: who has fewer is moved


def fit_rqvae(
    units: np.ndarray,
    *,
    sizes: Sequence[int],
    start: np.ndarray | None,
    hidden: Sequence[int],
    latent: int,
    steps: int,
    batch: int,
    learning_rate: float,
    commitment: float,
    decay: float,
    seed: int,
) -> tuple[Autoencoder, tuple[np.ndarray, ...]]:
    """Train ‖x − x̂‖² + commitment · Σ_l ‖r_l − sg(e_l)‖² by Adam, in one thread; first the autoencoder alone.

    A training takes as many steps whatever n, up to some tens of seconds: a run that is killed begins it anew.

    Args:
        units: [n, d] float32 of length one.
        sizes: codes of each level, at most n.
        start: [n, L] codes of an earlier fit, -1 where an item had none: each code begins as the mean latent of the
            items that had it, and keeps its number; and those items commit to it too, as they do to the nearest.
        hidden: widths of the encoder's layers between d and ``latent``; the decoder mirrors them.
        batch: items drawn a step; all of them are taken if they are no more.
        decay: of the codebooks' moving averages, a step.

    Returns:
        The autoencoder, and L levels [k, latent] float32.

    Raises:
        UserError: the package vector-quantize-pytorch is not installed.
        Diverged: the loss is not finite.
    """
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rows = torch.from_numpy(np.ascontiguousarray(units))
        batch = min(batch, len(rows))  # more would be the same items again and again
        autoencoder = Autoencoder(width=units.shape[1], hidden=hidden, latent=latent)
        quantizer = _quantizer(sizes, latent=latent, batch=batch, commitment=commitment, decay=decay)
        optimizer = torch.optim.Adam(autoencoder.parameters(), lr=learning_rate)
        earlier = None if start is None else torch.from_numpy(start).long()
        begin = round(_ALONE * steps)

        def step(number: int) -> dict[str, float]:
            if number == begin:
                _begin(quantizer, autoencoder.encode(units), start, sizes=sizes, share=batch / len(rows))
            chosen = torch.arange(len(rows))
            if batch < len(rows):
                chosen = torch.randint(len(rows), (batch,), generator=step_generator(seed, number))
            drawn = rows[chosen]
            latents, committed = autoencoder.encoder(drawn), torch.zeros(())
            if number >= begin:
                if earlier is not None:
                    committed = commitment * off_earlier(latents, earlier[chosen], quantizer.codebooks)
                quantised, _, losses = quantizer(latents[None])
                # The quantiser's losses are means over the latent's coordinates.
                latents, committed = quantised[0], committed + latent * losses.sum()
            off = (autoencoder.decoder(latents) - drawn).square().sum(dim=1).mean()
            optimizer.zero_grad()
            (off + committed).backward()
            optimizer.step()
            return {"loss": (off + committed).item()}

        with tempfile.TemporaryDirectory() as nowhere:
            fit(
                step,
                steps=steps,
                seed=seed,
                state={"autoencoder": autoencoder, "quantizer": quantizer, "optimizer": optimizer},
                checkpoint=Path(nowhere) / "rqvae",
                checkpoint_seconds=float("inf"),
                key="rqvae",
                description="semantic IDs",
                log=_unlogged,
            )
    levels = [np.array(level.numpy(), dtype=np.float32) for level in quantizer.codebooks]
    return autoencoder.eval(), tuple(levels if start is not None else map(in_order, levels))


def _quantizer(sizes: Sequence[int], *, latent: int, batch: int, commitment: float, decay: float) -> ResidualVQ:
    need("rqvae", what="RQ-VAE", otherwise="semantic_ids.method=residual_kmeans")
    from vector_quantize_pytorch import ResidualVQ

    return ResidualVQ(
        dim=latent,
        codebook_size=tuple(sizes),
        kmeans_init=True,
        kmeans_iters=20,
        decay=decay,
        commitment_weight=commitment,
        threshold_ema_dead_code=_DEAD * batch / max(sizes),
        rotation_trick=False,
    )


def _begin(
    quantizer: ResidualVQ, latents: np.ndarray, start: np.ndarray | None, *, sizes: Sequence[int], share: float
) -> None:
    """Give the codebooks their first codes: by k-means, or each the mean of the items that had it.

    Args:
        share: of the items that a step draws: as many stand behind a code as a step would see.
    """
    if start is None:
        quantizer(torch.from_numpy(latents)[torch.randperm(len(latents))[:_BEGUN_ON]][None])
        return
    state: dict[str, Tensor] = {}
    left = latents
    for at, size in enumerate(sizes):
        centroids, counts = means_by_code(left, start[:, at], size=size)
        weight = torch.from_numpy(np.maximum(counts, 1) * share).float()[None]  # [1, k]
        embed = torch.from_numpy(centroids)[None]  # [1, k, z]
        place = f"layers.{at}._codebook."
        state |= {place + "embed": embed, place + "embed_avg": embed * weight[..., None]}
        state |= {place + "cluster_size": weight, place + "initted": torch.tensor(True)}
        left = left - centroids[nearest(left, centroids)]
    quantizer.load_state_dict(state)


def off_earlier(latents: Tensor, codes: Tensor, codebooks: Sequence[Tensor]) -> Tensor:
    """How far latents [B, z] are off the codes [B, L] that their items had, level by level, as squares; a scalar."""
    known = (codes >= 0).all(dim=1)
    left, total = latents[known], latents.new_zeros(())
    for level, code in zip(codebooks, codes[known].T, strict=True):
        left = left - level[code]
        total = total + left.square().sum()
    return total / len(codes)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums, and with them codes at a border, would depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _unlogged(losses: Mapping[str, float], step: int) -> None:
    """The curve of a few seconds is nobody's; quality tells what came of it."""
