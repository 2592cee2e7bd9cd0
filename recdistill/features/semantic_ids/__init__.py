"""Semantic IDs: discrete codes of a space, level by level, by flat k-means, residual k-means or RQ-VAE.

``fit`` (by settings) → ``codebooks``, which code any vector of the space, an item's that nobody has met too, and are
all that is kept; ``kmeans`` and ``rqvae`` make them (over ``levels``, ``autoencoder``); ``quality`` (over ``usage``,
``neighbours``, ``tags``) tells how good they are, ``tables`` are what is written.
"""

from recdistill.features.semantic_ids.codebooks import Codebooks, prefixes
from recdistill.features.semantic_ids.fit import fit_codebooks
from recdistill.features.semantic_ids.quality import quality
from recdistill.features.semantic_ids.tables import SEMANTIC_ID, as_text, codes_of, read_codes, to_items_table, to_table
from recdistill.features.semantic_ids.tags import tag_pairs
from recdistill.features.semantic_ids.usage import kept

__all__ = [
    "SEMANTIC_ID",
    "Codebooks",
    "as_text",
    "codes_of",
    "fit_codebooks",
    "kept",
    "prefixes",
    "quality",
    "read_codes",
    "tag_pairs",
    "to_items_table",
    "to_table",
]
