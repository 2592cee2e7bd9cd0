"""``text_ngram``: items whose texts share rare runs of words.

Shapes: I items, V distinct runs.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer

from recdistill.pairs.catalogue import Catalogue, chosen_fields
from recdistill.pairs.config import TextNgramConfig
from recdistill.pairs.found import Found, nothing
from recdistill.pairs.shared_values import of_like_values

_BUCKETS = 1 << 30  # so many that two runs rarely share one; only those that occur take memory


def text_ngram(config: TextNgramConfig, catalogue: Catalogue, *, seed: int) -> Found:
    """Pairs of the whole catalogue; score: Jaccard weighted by inverse document frequency.

    Mark-up needs no cleaning: its runs occur everywhere, and what is frequent does not count.

    Raises:
        UserError: a field that the settings name is not there.
    """
    fields = chosen_fields(config.fields, catalogue.text_fields, what="text", key="pairs.text_ngram.fields")
    if not fields:
        return nothing(catalogue.ids, "the items table has no text field")
    runs = word_runs((catalogue.texts(field) for field in fields), words=config.words)
    return of_like_values(config, catalogue, runs, seed=seed, about={"fields": fields})


def word_runs(fields: Iterable[list[str]], *, words: int) -> sparse.csr_matrix:
    """[I, V] float32, 1 where an item's texts have a run of that many words; runs do not reach across fields.

    Words have two characters or more, without case. Memory: about 40 bytes a run of an item.

    Args:
        fields: [I] texts of each field.
    """
    vectorizer = HashingVectorizer(
        ngram_range=(words, words), n_features=_BUCKETS, alternate_sign=False, norm=None, binary=True, dtype=np.float32
    )
    counted = sum(vectorizer.transform(texts) for texts in fields)
    buckets, column = np.unique(counted.indices, return_inverse=True)
    ones = np.ones(len(column), dtype=np.float32)
    return sparse.csr_matrix((ones, column, counted.indptr), (counted.shape[0], len(buckets)))
