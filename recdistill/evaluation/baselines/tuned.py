"""Each baseline tuned on the selection fit's validation questions, then refitted on everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from recdistill.contracts.tables import EmbeddingTable
from recdistill.errors import UserError
from recdistill.evaluation.baselines.ease import Ease
from recdistill.evaluation.baselines.ials import Ials
from recdistill.evaluation.baselines.material import Material
from recdistill.evaluation.baselines.regression import KernelRidge, Ridge
from recdistill.evaluation.baselines.simple import RawContent, popularity
from recdistill.evaluation.baselines.tuning import Chosen, Range, choose, points
from recdistill.evaluation.config import Baseline, BaselinesConfig
from recdistill.evaluation.metrics import recall_at_k
from recdistill.evaluation.questions import Questions
from recdistill.evaluation.subjects import Subject, VectorSubject


class Skipped(Exception):
    """Why a baseline cannot be made here; the stage notes it."""


@dataclass(frozen=True)
class Made:
    """A baseline ready to be judged.

    Attributes:
        final: fitted on training and validation.
        selection: fitted on training alone, where it has vectors or can place new items: rankers train on vectors,
            and a new-item level is chosen by it.
        chosen: how its settings were found; None where it has none.
    """

    final: Subject
    selection: Subject | None = None
    chosen: Chosen | None = None


def make_baseline(
    name: Baseline,
    config: BaselinesConfig,
    *,
    selection: Material,
    final: Material,
    questions: Questions,
    seed: int = 0,
) -> Made:
    """Tune and fit one baseline.

    Args:
        selection, final: what each fit may learn from.
        questions: vanilla seq2item over the validation window.
        seed: of iALS' factors at the start; the others draw nothing.

    Raises:
        Skipped: it cannot be made, with the reason.
    """
    if name == "popularity":
        return Made(popularity(final))
    if name == "raw_content":
        return _raw_content(config, selection, final, questions)
    if name in ("ease", "ease_content"):
        return _ease(name == "ease_content", config, selection, final, questions)
    if name == "ials":
        return _ials(config, selection, final, questions, seed=seed)
    return _regression(name, config, selection, final, questions)


def _raw_content(config: BaselinesConfig, selection: Material, final: Material, questions: Questions) -> Made:
    before, after = RawContent(selection), RawContent(final)
    if len(before.modalities) < 2:  # nothing to choose
        return Made(after.fit({}), before.fit({}))
    ranges = dict.fromkeys(before.modalities[1:], config.raw_content.weight)  # against the first modality's 1
    chosen = choose(
        ranges,
        lambda weights: _score(before.fit(weights), questions, config),
        count=config.trials,
        start=dict.fromkeys(ranges, 1.0),
    )
    return Made(after.fit(chosen.settings), before.fit(chosen.settings), chosen)


def _regression(name: str, config: BaselinesConfig, selection: Material, final: Material, questions: Questions) -> Made:
    if selection.teacher is None or final.teacher is None:
        raise Skipped(f"no teacher table '{config.teacher}'")

    def model(material: Material, table: EmbeddingTable) -> Callable[..., VectorSubject]:
        if name == "ridge":
            return Ridge(material, table).fit
        return KernelRidge(material, table, max_points=config.kernel_ridge.max_points).fit

    if name == "ridge":
        ranges = {"l2": config.ridge.l2, "confidence": config.kernel_ridge.confidence}
    else:
        of = config.kernel_ridge
        ranges = {"l2": of.l2, "gamma": of.gamma, "confidence": of.confidence}
    chosen, vectors = _tune(model(selection, selection.teacher), ranges, config, questions)
    return Made(model(final, final.teacher)(**chosen.settings), vectors, chosen)


def _tune(
    fit: Callable[..., VectorSubject], ranges: dict[str, Range], config: BaselinesConfig, questions: Questions
) -> tuple[Chosen, VectorSubject]:
    chosen = choose(ranges, lambda settings: _score(fit(**settings), questions, config), count=config.trials)
    return chosen, fit(**chosen.settings)


def _ease(
    with_content: bool, config: BaselinesConfig, selection: Material, final: Material, questions: Questions
) -> Made:
    if len(final.item_ids) > config.ease.max_items:
        raise Skipped(f"{len(final.item_ids)} items are more than evaluate.baselines.ease.max_items")
    width = config.ease.content_width if with_content else 0
    chosen = _tune_ease(config, selection, questions, width=width)
    before = Ease(selection, content_width=width).fit(**chosen.settings) if width else None
    return Made(Ease(final, content_width=width).fit(**chosen.settings), before, chosen)


def _tune_ease(config: BaselinesConfig, selection: Material, questions: Questions, *, width: int) -> Chosen:
    model = Ease(selection, content_width=width, max_items=config.ease.tuning_items)
    inside = questions.take(model.present[questions.target])  # the others rank alike, last, in every trial
    ranges = {"l2": config.ease.l2, "beta": config.ease.beta} if width else {"l2": config.ease.l2}
    return choose(ranges, lambda settings: _score(model.fit(**settings), inside, config), count=config.trials)


def _ials(config: BaselinesConfig, selection: Material, final: Material, questions: Questions, *, seed: int) -> Made:
    """Each fit is asked both ways, by cosine and by dot product: that costs no trial."""
    of = config.ials
    before, after = (Ials(part, dim=of.dim, iterations=of.iterations, seed=seed) for part in (selection, final))
    tried: list[tuple[dict[str, float], float]] = []
    try:
        for settings in points({"alpha": of.alpha, "l2": of.l2}, count=config.trials):
            found = before.fit(**settings)
            for cosine in (True, False):
                score = _score(replace(found, cosine=cosine), questions, config)
                tried.append(({**settings, "cosine": cosine}, score))
    except UserError as error:
        raise Skipped(error.message) from error
    chosen = Chosen.best(tried)
    return Made(after.fit(**chosen.settings), before.fit(**chosen.settings), chosen)


def _score(subject: Subject, questions: Questions, config: BaselinesConfig) -> float:
    return recall_at_k(subject.ranks(questions), k=config.tune_at) if len(questions) else 0.0
