"""Our teachers against their best open peers: one split, one set of questions, as many tuning trials for each.

Purpose: a student is no better than its teachers. ID teacher against implicit's iALS and BPR and against EASE; the
sequence teacher against RecTools' SASRec, which gets an environment of its own.
The sequence teacher sees when the next item is asked for, as in use; the peer sees order alone, and so does
sequence_teacher_sasrec, ours with SASRec's block and no eras.
Each trial's length is chosen like its settings: ours by early stopping, the peer's among EPOCHS.
Command: python experiments/benchmarks/teachers/quality.py experiments/recipes/movietweetings.yaml data.root=FOLDER
         --out runs/quality [--trials 3] [--seeds 3] [--models id_teacher,ials,…]     (split.protocol=folds: all folds)
Time: about 20 minutes on movietweetings on two cores, two thirds of it RecTools'. Memory: 3 GB.
Expected: a table of NDCG@10 and Recall@10 in %, mean over seeds ± s.d., with the difference to the peer by user.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.stats import qmc

from recdistill.config import Recipe, load_recipe
from recdistill.contracts.fold import Fit, Fold
from recdistill.evaluation.baselines.ease import Ease
from recdistill.evaluation.baselines.material import Material
from recdistill.evaluation.questions import Questions as Asked
from recdistill.exits import exit_codes
from recdistill.flow import run
from recdistill.teachers.build import build_id_teacher, build_sequence_teacher
from recdistill.teachers.config import IdTeacherConfig, SequenceTeacherConfig
from recdistill.teachers.ials import ials_vectors, interactions
from recdistill.teachers.positives import InMemory, Positives
from recdistill.teachers.sequence_teacher import SequenceTeacher
from recdistill.teachers.validation import Questions, gains
from recdistill.training import fit

PEERS = {
    "id_teacher": ("ials", "bpr", "ease", "popularity"),
    "sequence_teacher": ("sasrec", "sequence_teacher_sasrec", "popularity"),
    "sequence_teacher_sasrec": ("sasrec",),
}
LENGTH = 50
EPOCHS = tuple(range(4, 33, 4))  # of the peer, one of which validation chooses
# Without them the peer's process spends two fifths of its time giving memory back and fetching it again.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
Settings = dict[str, float]
Answer = Callable[["Arena", Fit, Settings, int], np.ndarray]  # [C] ranks of the fit's questions


@dataclass(frozen=True)
class Model:
    """One contestant: ranges of its settings, and how it answers the questions of a fit."""

    ranges: Mapping[str, tuple[float, float]]
    answer: Answer


class Arena:
    """Data and questions of one fold of a log."""

    def __init__(self, recipe: Recipe, out: Path, fold: str, *, venv: Path) -> None:
        self.recipe, self.out, self.venv = recipe, out, venv
        self.fold = Fold(out / "split" / fold)
        self.item_ids = self.fold.item_ids()
        asked = recipe.evaluate.seq2item
        self.questions = {
            which: Questions(asked, self.fold, which, state_length=LENGTH, seed=0) for which in ("selection", "final")
        }
        self.positives = {
            which: Positives.of(self.fold.training(which), min_behaviours=asked.min_positive, last=1_000, seed=0)
            for which in ("selection", "final")
        }
        self.lengths: dict[str, int] = {}  # steps or epochs that validation chose

    def id_teacher(self, which: Fit, settings: Settings, seed: int) -> np.ndarray:
        """Ours; the mean of the history's vectors asks."""
        return self._trained(IdTeacherConfig(**settings), which, seed)

    def sequence_teacher(self, which: Fit, settings: Settings, seed: int) -> np.ndarray:
        """Ours; the state asks."""
        return self._trained(SequenceTeacherConfig(length=LENGTH, **settings), which, seed)

    def sequence_teacher_sasrec(self, which: Fit, settings: Settings, seed: int) -> np.ndarray:
        """Ours with what the peer sees."""
        return self._trained(SequenceTeacherConfig(length=LENGTH, block="sasrec", eras=0, **settings), which, seed)

    def _trained(self, config: IdTeacherConfig | SequenceTeacherConfig, which: Fit, seed: int) -> np.ndarray:
        """Validation chooses the step, the final fit takes as many."""
        key, selecting = f"{type(config).__name__}{seed}{config}", which == "selection"
        if not selecting and key not in self.lengths:
            self._trained(config, "selection", seed)
        users = InMemory(self.positives[which], power=config.user_power)
        teacher = (
            build_sequence_teacher(config, users, seed=seed)
            if isinstance(config, SequenceTeacherConfig)
            else build_id_teacher(config, users, seed=seed)
        )
        known = self.item_ids.get_indexer(self.positives[which].item_ids)

        def ranks() -> np.ndarray:
            vectors = teacher.vectors().numpy()
            if isinstance(teacher, SequenceTeacher):
                return self.questions[which].of_states(
                    partial(teacher.user_states, torch.from_numpy(vectors)), vectors, known
                )
            return self._of_vectors(which, vectors, cosine=config.geometry == "cosine")

        fitted = fit(
            teacher.step,
            steps=config.steps if selecting else self.lengths[key],
            seed=seed,
            state=teacher.state,
            checkpoint=self.out / "unfinished",
            key=key + which,
            description=f"{type(config).__name__} · {which}",
            log=lambda metrics, step: None,
            validate=(lambda: float(gains(ranks()).mean())) if selecting else None,
            validate_every=config.validate_every if selecting else 0,
            patience=config.patience if selecting else 0,
        )
        if selecting:
            self.lengths[key] = fitted.best_step
        return ranks()

    def _of_vectors(self, which: Fit, vectors: np.ndarray, *, cosine: bool) -> np.ndarray:
        known = self.item_ids.get_indexer(self.positives[which].item_ids)
        table, present = (
            np.zeros((len(self.item_ids), vectors.shape[1]), np.float32),
            np.zeros(len(self.item_ids), bool),
        )
        table[known], present[known] = vectors, True
        return self.questions[which].of_table(table, present, cosine=cosine)

    def _either(self, which: Fit, vectors: np.ndarray) -> np.ndarray:
        """By dot product or by cosine, whichever serves the peer better on these questions: its good, not ours."""
        found = [self._of_vectors(which, vectors, cosine=cosine) for cosine in (False, True)]
        return max(found, key=lambda ranks: float(gains(ranks).mean()))

    def ials(self, which: Fit, settings: Settings, seed: int) -> np.ndarray:
        """implicit's, asked by the mean of the history's factors."""
        vectors = ials_vectors(
            self.positives[which], dim=64, alpha=settings["alpha"], l2=settings["l2"], iterations=15, seed=seed
        )
        return self._either(which, vectors)

    def bpr(self, which: Fit, settings: Settings, seed: int) -> np.ndarray:
        """implicit's, asked likewise."""
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        model = BayesianPersonalizedRanking(factors=64, iterations=100, random_state=seed, num_threads=1, **settings)
        model.fit(interactions(self.positives[which]), show_progress=False)
        return self._either(which, np.asarray(model.item_factors[:, :-1]))  # the last is the item's bias

    def ease(self, which: Fit, settings: Settings, seed: int) -> np.ndarray:
        """Its own scores of the history."""
        ids, questions = self.item_ids, self.questions[which]
        nothing = np.zeros((len(ids), 1), np.float32)
        log = self.fold.training(which)
        of = Material(ids, nothing, nothing[:, 0] > 0, {}, log, None, self.recipe.evaluate.seq2item.min_positive)
        subject = Ease(of).fit(l2=settings["l2"])
        ranks = subject.ranks(Asked.of_users(questions.drawn, cold=~of.known))
        return np.where(subject.present[questions.drawn.target], ranks, np.inf)

    def popularity(self, which: Fit, settings: Settings, seed: int) -> np.ndarray:
        """By number of positives."""
        positives = self.positives[which]
        support, present = np.zeros(len(self.item_ids), dtype=np.int64), np.zeros(len(self.item_ids), dtype=bool)
        known = self.item_ids.get_indexer(positives.item_ids)
        support[known], present[known] = positives.support.numpy(), True
        return self.questions[which].of_popularity(support, present)

    def sasrec(self, which: Fit, settings: Settings, seed: int) -> np.ndarray:
        """RecTools'; validation chooses the epoch, the final fit takes as many."""
        positives, questions, key = self.positives[which], self.questions[which], f"sasrec{seed}{settings}"
        selecting = which == "selection"
        if not selecting and key not in self.lengths:
            self.sasrec("selection", settings, seed)
        epochs = EPOCHS if selecting else (self.lengths[key],)
        known = self.item_ids.get_indexer(positives.item_ids)
        user = np.repeat(np.arange(len(positives.counts)), positives.counts.numpy())
        given, job, output = self.out / "peer.npz", self.out / "peer.json", self.out / "peer_out.npz"
        np.savez(given, user=user, item=known[positives.item.numpy()], query=questions.in_order.query)
        told = {"input": str(given), "output": str(output), "loss": "softmax", "negatives": 1, "dim": 64}
        told |= {"length": LENGTH, "seed": seed, "threads": torch.get_num_threads(), "epochs": epochs, **settings}
        job.write_text(json.dumps(told))
        command = [str(self.venv / "bin" / "python"), str(Path(__file__).with_name("sasrec_peer.py")), str(job)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | KEEP_MEMORY)
        if done.returncode:
            sys.exit(f"the peer failed:\n{done.stderr[-2000:]}")
        found = np.load(output)
        answers = []
        for epoch in epochs:
            states = torch.from_numpy(found[f"states_{epoch}"])
            answers.append(questions.of_states(lambda *question: states, found[f"vectors_{epoch}"], found["items"]))  # noqa: B023
        best = int(np.argmax([gains(ranks).mean() for ranks in answers]))
        if selecting:
            self.lengths[key] = epochs[best]
        return answers[best]


_SEQUENCE = {"dense_learning_rate": (1e-3, 1e-2), "dropout": (0.3, 0.6), "learning_rate": (0.015, 0.06)}
MODELS = {
    "popularity": Model({}, Arena.popularity),
    "ease": Model({"l2": (5, 5000)}, Arena.ease),
    "bpr": Model({"learning_rate": (0.003, 0.1), "regularization": (1e-4, 0.1)}, Arena.bpr),
    "ials": Model({"alpha": (1, 100), "l2": (0.1, 100)}, Arena.ials),
    "id_teacher": Model(
        {"learning_rate": (0.03, 0.3), "temperature": (0.07, 0.2), "dropout": (0.2, 0.6)}, Arena.id_teacher
    ),
    "sasrec": Model({"lr": (5e-4, 4e-3), "dropout": (0.2, 0.5)}, Arena.sasrec),
    "sequence_teacher": Model(_SEQUENCE, Arena.sequence_teacher),
    "sequence_teacher_sasrec": Model(_SEQUENCE, Arena.sequence_teacher_sasrec),
}


def trials(ranges: Mapping[str, tuple[float, float]], count: int) -> list[Settings]:
    """Evenly spread settings on a log scale."""
    if not ranges:
        return [{}]
    sequence = qmc.Halton(d=len(ranges), scramble=False)
    sequence.fast_forward(1)
    low, high = (np.log([bound[at] for bound in ranges.values()]) for at in (0, 1))
    return [
        dict(zip(ranges, np.exp(low + (high - low) * point).tolist(), strict=True)) for point in sequence.random(count)
    ]


def peer_environment(folder: Path) -> Path:
    """RecTools with its torch extra, in an environment of its own."""
    if not (folder / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "torch==2.13.0", "rectools[torch]==0.19.0"], check=True)
    return folder


@exit_codes()
def main() -> None:
    """Tune each contestant on validation, answer the test with several seeds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--peers", type=Path, help="environment of RecTools; default OUT/peers")
    of = parser.parse_args()
    recipe = load_recipe(of.recipe, of.overrides)
    run(recipe, out=of.out, until="split", say=print)
    names = of.models.split(",")
    venv = peer_environment(of.peers or of.out / "peers") if "sasrec" in names else Path()
    arenas = [Arena(recipe, of.out, fold, venv=venv) for fold in recipe.split.fold_names()]
    tests = [arena.questions["final"] for arena in arenas]
    count, users = sum(map(len, tests)), sum(test.users for test in tests)
    print(f"{recipe.name}: {count} test questions of {users} users; {of.trials} trials, {of.seeds} seeds")
    answers: dict[str, list[np.ndarray]] = {}
    print(f"{'':<25}{'NDCG@10':>15}{'R@10':>15}{'validation':>12}{'minutes':>9}  settings")
    for name, model in MODELS.items():
        if name not in names:
            continue
        started = time.monotonic()

        def ranks(which: Fit, settings: Settings, seed: int, model: Model = model) -> np.ndarray:
            return np.concatenate([model.answer(arena, which, settings, seed) for arena in arenas])

        tried = [
            (float(gains(ranks("selection", settings, 0)).mean()), -at, settings)
            for at, settings in enumerate(trials(model.ranges, of.trials))
        ]
        best, _, settings = max(tried, key=lambda each: each[:2])
        seeds = range(of.seeds if model.ranges and name != "ease" else 1)
        answers[name] = [ranks("final", settings, seed) for seed in seeds]
        cells = []
        for of_case in (gains, lambda ranks: (ranks <= 10).astype(float)):
            values = [100 * float(of_case(ranks).mean()) for ranks in answers[name]]
            cells.append(f"{np.mean(values):.2f} ± {np.std(values):.2f}")
        chosen = " ".join(f"{key}={value:.3g}" for key, value in settings.items())
        minutes = (time.monotonic() - started) / 60
        print(f"{name:<25}{cells[0]:>15}{cells[1]:>15}{100 * best:>12.2f}{minutes:>9.1f}  {chosen}", flush=True)
    print("\ndifference by user, points of NDCG@10 [95 % bootstrap interval over users]")
    user = np.concatenate([at * 10**9 + test.drawn.user.astype(np.int64) for at, test in enumerate(tests)])
    for ours, peers in PEERS.items():
        for peer in (peer for peer in peers if ours in answers and peer in answers):
            case = np.mean([gains(ranks) for ranks in answers[ours]], axis=0)
            case = case - np.mean([gains(ranks) for ranks in answers[peer]], axis=0)
            low, high = interval(case, user)
            print(f"{ours} − {peer}: {100 * case.mean():+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]")


def interval(values: np.ndarray, user: np.ndarray, *, draws: int = 2000) -> tuple[float, float]:
    """95 % of means over resampled users."""
    _, group = np.unique(user, return_inverse=True)
    total, count = np.bincount(group, weights=values), np.bincount(group)
    rows = np.random.default_rng(0).integers(0, len(total), (draws, len(total)))
    means = total[rows].sum(axis=1) / count[rows].sum(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


if __name__ == "__main__":
    main()
