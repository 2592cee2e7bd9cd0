"""The objectives that a training is made of, one a file."""

from __future__ import annotations

from recdistill.distill.terms.aldi import Aldi
from recdistill.distill.terms.alignment import Alignment
from recdistill.distill.terms.clcrec import ClcRec
from recdistill.distill.terms.dropoutnet import DropoutNet
from recdistill.distill.terms.item_to_item import ItemToItem
from recdistill.distill.terms.ordering import Ordering
from recdistill.distill.terms.ranking import Ranking
from recdistill.distill.terms.relational import Relational
from recdistill.distill.terms.sequence_to_item import SequenceToItem
from recdistill.distill.terms.soft_targets import SoftTargets
from recdistill.distill.terms.term import Given, Term
from recdistill.distill.terms.topology import Topology

# By the name of their weight. In this order they are built and computed, and draw what they drop and begin with.
TERMS: dict[str, type[Term]] = {
    "sequence_to_item": SequenceToItem,
    "relational": Relational,
    "alignment": Alignment,
    "item_to_item": ItemToItem,
    "soft_targets": SoftTargets,
    "topology": Topology,
    "ordering": Ordering,
    "ranking": Ranking,
    "dropoutnet": DropoutNet,
    "clcrec": ClcRec,
    "aldi": Aldi,
}


def build_terms(given: Given) -> dict[str, Term]:
    """Name → term of every objective that the trial gives weight."""
    return {name: term(given) for name, term in TERMS.items() if getattr(given.trial.weights, name)}


__all__ = ["TERMS", "Given", "Term", "build_terms"]
