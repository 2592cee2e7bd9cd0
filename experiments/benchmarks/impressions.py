"""Rankers judged within impressions, as MIND's authors judge news recommenders: AUC, MRR, nDCG@5 and nDCG@10.

Purpose: published figures of MIND (Wu et al., ACL 2020, section 5) are means over impressions. This gives ours the same
form: every impression of the test window with clicks and non-clicks, what a finished run's rankers say of what was
shown. NRMS (Wu et al., EMNLP 2019) reaches an AUC of .66 to .68 there, by titles, trained on 150,000 impressions
(MIND-small) or more, tested on a later day's.
Comparable: the task, the metrics, real non-clicks. Not comparable, with the sample of 5,000 impressions: three in a
hundred rows have a title, so that ours know ids; they learn from a thirtieth of the impressions; the test is the log's
last fifth in place of the next day; and the rankers count how often each item was clicked before (group ``none``),
which NRMS does not.
Command: recdistill run experiments/recipes/mind.yaml data.root=FOLDER 'seeds=[0,1,2]' --out RUN, then
         python experiments/benchmarks/impressions.py RUN
Time: a minute; the run about five minutes a seed on one core. Memory: 1 GB.
Expected: a row a ranker and group: the four figures in per cent, mean over seeds, and the AUC's gain over the same
ranker's none with a 95 % interval over users. On the sample every ranker comes to an AUC of 58 to 60, as the click rate
does; trees gain .9 by the ID teacher and .6 by the student, networks lose by any vectors, by random ones most.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from sklearn.metrics import ndcg_score

from recdistill.contracts import names
from recdistill.exits import exit_codes
from recdistill.lifetime.intervals import by_user
from recdistill.rankers import metrics
from recdistill.rankers.names import NONE
from recdistill.rankers.predictions import Predictions

METRICS = ("AUC", "MRR", "nDCG@5", "nDCG@10")


@exit_codes()
def main() -> None:
    """Read the run's predictions, print a row a ranker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--draws", type=int, default=1000, help="of the bootstrap over users")
    of = parser.parse_args()
    seeds = [Predictions.read(path) for path in sorted(of.run.glob("seed-*/*/rank/predictions.parquet"))]
    if not seeds:
        parser.error(f"{of.run}: no seed-*/*/rank/predictions.parquet here; give a finished run's folder")
    if any(not seed.rows.equals(seeds[0].rows) for seed in seeds[1:]):
        parser.error(f"{of.run}: seeds or folds were tested on different rows; the split must be by time")
    impressions = impression_of(seeds[0])
    both = _judged(impressions, seeds[0].label)
    if not both.any():
        parser.error(f"{of.run}: no list of the test window has a positive and a negative; is it a log of impressions?")
    values = {name: np.mean([judge(seed, seed.logits[name]) for seed in seeds], axis=0) for name in seeds[0].logits}
    log = of.run / "data" / "interactions.parquet"
    if names.IMPRESSION_ID in pq.read_schema(log).names:
        values["click rate so far"] = judge(seeds[0], click_rate(log, seeds[0]))
    user = pd.Series(seeds[0].user).groupby(impressions).first().to_numpy()[both]
    print(
        f"{len(seeds)} seeds, {len(user):,} impressions of {len(np.unique(user)):,} users with clicks and non-clicks, "
        f"{np.isin(impressions, np.flatnonzero(both)).sum():,} rows; per cent"
    )
    print(f"{'':<24}{''.join(f'{name:>9}' for name in METRICS)}{'Δ AUC over none':>26}")
    for name, value in values.items():
        line = f"{name:<24}{''.join(f'{100 * figure:>9.2f}' for figure in value.mean(axis=0))}"
        base = f"{name.split('/')[0]}/{NONE}"
        if name != base and base in values:
            gain = value[:, 0] - values[base][:, 0]
            line += f"{_points(gain, user, draws=of.draws):>26}"
        print(line)


def _points(gain: np.ndarray, user: np.ndarray, *, draws: int) -> str:
    limits = by_user(lambda rows: float(gain[rows].mean()), user, draws=draws, seed=0)
    return f"{100 * gain.mean():+.2f}" + (f" [{100 * limits[0]:+.2f}, {100 * limits[1]:+.2f}]" if limits else "")


def impression_of(of: Predictions) -> np.ndarray:
    """[n] number of each row's impression: a user sees one list at a time, whose rows have one time."""
    time = of.rows.column(2).to_numpy()
    return pd.DataFrame({"user": of.user, "time": time}).groupby(["user", "time"], sort=False).ngroup().to_numpy()


def _judged(impression: np.ndarray, label: np.ndarray) -> np.ndarray:
    """[·] bool: impressions with a click and a non-click."""
    clicks, rows = np.bincount(impression, weights=label), np.bincount(impression)
    return np.asarray((clicks > 0) & (clicks < rows))


def click_rate(log: Path, of: Predictions) -> np.ndarray:
    """[n] clicks by impressions of each row's item strictly before it, with ten impressions at the mean rate added.

    Clicks before the log have no impressions, and are left out.
    """
    columns = [names.ITEM_ID, names.TIMESTAMP, names.BEHAVIOURS, names.IMPRESSION_ID]
    shown = pq.read_table(log, columns=columns).to_pandas().dropna(subset=names.IMPRESSION_ID)
    shown = shown.assign(clicks=shown[names.BEHAVIOURS].str.len() > 0, shown=1)
    sums = shown.groupby([names.ITEM_ID, names.TIMESTAMP])[["clicks", "shown"]].sum().groupby(level=0).cumsum()
    asked = of.rows.select([names.ITEM_ID, names.TIMESTAMP]).to_pandas().reset_index()
    found = pd.merge_asof(
        asked.sort_values(names.TIMESTAMP, kind="stable"),
        sums.reset_index().sort_values(names.TIMESTAMP, kind="stable"),
        on=names.TIMESTAMP,
        by=names.ITEM_ID,
        allow_exact_matches=False,
    ).sort_values("index")
    before = shown[shown[names.TIMESTAMP] < asked[names.TIMESTAMP].min()]
    clicks, rows = (found[name].fillna(0).to_numpy(dtype=np.float64) for name in ("clicks", "shown"))
    mean = before["clicks"].mean() if len(before) else 0.0
    return np.asarray((clicks + 10 * mean) / (rows + 10))


def judge(of: Predictions, score: np.ndarray) -> np.ndarray:
    """[impressions, 4] of every judged impression, by the scores of the rows."""
    impression = impression_of(of)
    order = np.argsort(impression, kind="stable")
    cuts = np.flatnonzero(np.diff(impression[order])) + 1
    both = _judged(impression, of.label)
    found = []
    for number, rows in enumerate(np.split(order, cuts)):
        if both[number]:
            found.append(of_impression(of.label[rows], score[rows]))
    return np.array(found)


def of_impression(label: np.ndarray, score: np.ndarray) -> Sequence[float]:
    """AUC, MRR (mean of 1 / rank over the clicked, as MIND counts it), nDCG@5 and nDCG@10 of one list.

    Rows of equal scores earn the mean over their orders.
    """
    ordered = np.sort(score)
    first, last = (len(score) - np.searchsorted(ordered, score[label], side=side) for side in ("right", "left"))
    harmonic = np.cumsum(1 / np.arange(1, len(score) + 1), dtype=np.float64)
    ahead = np.where(first > 0, harmonic[first - 1], 0.0)  # of the ranks above the score's own, first + 1 to last
    return (
        float(metrics.auc(label, score)),
        float(((harmonic[last - 1] - ahead) / (last - first)).mean()),
        *(float(ndcg_score(label[None], score[None], k=k)) for k in (5, 10)),
    )


if __name__ == "__main__":
    main()
