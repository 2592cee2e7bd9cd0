"""The surrogate index: LT-n regressed on the signals of a window, and how well that does on a later cohort.

Shapes: E entries.

Athey, Chetty, Imbens, Kang (NBER w26463) replace a long-term outcome by its prediction from short-term signals; the
effect of a treatment on the prediction is its effect on the outcome if the signals carry all of it (surrogacy) and the
relation holds for the treated as for those it was learned from (comparability). Neither can be shown from a log;
arXiv 2311.11922 does the same for long-term satisfaction of a streaming service.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from recdistill.lifetime.signals import COLUMNS, Signals

PENALTY = 1.0
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Surrogate:
    """Ridge regression of LT-n on an entry's signals.

    Attributes:
        horizon: n.
    """

    model: Pipeline
    horizon: int

    @classmethod
    def fit(cls, signals: Signals, outcome: np.ndarray, *, horizon: int) -> Surrogate:
        """Fit on entries with an observed outcome."""
        return cls(fit_ridge(signals.matrix(), outcome), horizon)

    def index(self, signals: Signals) -> np.ndarray:
        """[E] days, linear in every column: for means over entries, of which single ones may leave [0, n]."""
        index: np.ndarray = self.model.predict(signals.matrix())
        return index

    def predict(self, signals: Signals) -> np.ndarray:
        """[E] predicted days, within [0, n]."""
        return np.clip(self.index(signals), 0, self.horizon)

    def slopes(self) -> dict[str, float]:
        """Days that one more of each column adds, by the names of ``COLUMNS``; 0 of one that did not vary."""
        slope = self.model[-1].coef_ / self.model[0].scale_
        return dict(zip(COLUMNS, slope.tolist(), strict=True))


def fit_ridge(matrix: np.ndarray, outcome: np.ndarray) -> Pipeline:
    """Standardised columns of [E, c], with a penalty of one entry's weight.

    That parts what columns which always go together are worth, and takes nothing of what stands out: a penalty chosen
    by prediction shrinks a weak effect towards zero, and its interval with it.
    """
    return make_pipeline(StandardScaler(), Ridge(PENALTY)).fit(matrix, outcome)


def varies(values: np.ndarray) -> bool:
    """Whether values differ by more than rounding."""
    return bool(np.ptp(values) > _ROUNDING * np.abs(values).max()) if len(values) else False


def r_squared(outcome: np.ndarray, predicted: np.ndarray) -> float:
    """1 − squared error / variance about the outcomes' own mean; NaN if they do not vary."""
    if not varies(outcome):
        return np.nan
    return float(1 - ((outcome - predicted) ** 2).sum() / ((outcome - outcome.mean()) ** 2).sum())


def rank_correlation(outcome: np.ndarray, predicted: np.ndarray) -> float:
    """Spearman's ρ; 0 for a prediction that does not vary."""
    if not (varies(predicted) and varies(outcome)):
        return 0.0
    return float(spearmanr(outcome, predicted).statistic)


@dataclass(frozen=True)
class Calibration:
    """How outcomes follow predictions.

    Attributes:
        bias: mean prediction − mean outcome, days; 0 is right.
        slope: of the outcome's regression on the prediction; 1 is right, below 1 the predictions differ too much.
        error: mean over bins of |mean prediction − mean outcome|, weighted by entries, days.
    """

    bias: float
    slope: float
    error: float


def calibration(outcome: np.ndarray, predicted: np.ndarray, *, bins: int = 10) -> Calibration:
    """Calibration over bins of equally many entries (Naeini et al., AAAI 2015, for days instead of probabilities).

    The slope is NaN for predictions that do not vary.
    """
    centred = predicted - predicted.mean()
    slope = float((centred * outcome).sum() / (centred**2).sum()) if varies(predicted) else np.nan
    order = np.argsort(predicted, kind="stable")
    gaps = [(predicted[part] - outcome[part]).sum() for part in np.array_split(order, bins)]
    return Calibration(float((predicted - outcome).mean()), slope, float(np.abs(gaps).sum() / len(outcome)))
