"""Our teachers against their best open peers: one split, one set of questions, as many tuning trials for each.

Purpose: a student is no better than its teachers. ID teacher against implicit's iALS and BPR and against EASE; the
sequence teacher against RecTools' SASRec, which gets an environment of its own.
Command: python experiments/benchmarks/teachers/quality.py experiments/recipes/movietweetings.yaml data.root=FOLDER
         --out runs/quality [--trials 6] [--seeds 3] [--models id_teacher,ials,…]
Time: about half an hour a log on two cores, most of it RecTools'. Memory: 3 GB.
Expected: a table of NDCG@10 and Recall@10 in %, mean over seeds ± s.d., with the difference to the peer by user.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
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
from recdistill.flow import run
from recdistill.teachers.build import Teacher, build_id_teacher, build_sequence_teacher
from recdistill.teachers.config import IdTeacherConfig, SequenceTeacherConfig
from recdistill.teachers.ials import ials_vectors, interactions
from recdistill.teachers.positives import InMemory, Positives
from recdistill.teachers.validation import Questions, gains
from recdistill.training import fit

PEERS = {"id_teacher": ("ials", "bpr", "ease", "popularity"), "sequence_teacher": ("sasrec", "popularity")}
LENGTH = 50
Settings = dict[str, float]


@dataclass(frozen=True)
class Model:
    """One contestant: ranges of its settings, and how it answers the questions of a fit."""

    ranges: Mapping[str, tuple[float, float]]
    answer: Callable[[Fit, Settings, int], np.ndarray]  # [C] ranks


class Arena:
    """Data and questions of one log's fold."""

    def __init__(self, recipe: Recipe, out: Path, *, venv: Path) -> None:
        self.recipe, self.out, self.venv = recipe, out, venv
        self.fold = Fold(out / "split" / recipe.split.fold_names()[0])
        self.item_ids = self.fold.item_ids()
        asked = recipe.evaluate.seq2item
        self.questions = {
            which: Questions(asked, self.fold, which, state_length=LENGTH, seed=0) for which in ("selection", "final")
        }
        self.positives = {
            which: Positives.of(self.fold.training(which), min_behaviours=asked.min_positive, last=1_000, seed=0)
            for which in ("selection", "final")
        }
        self.steps: dict[str, int] = {}

    def contestants(self) -> dict[str, Model]:
        """By name."""
        return {
            "id_teacher": Model(
                {"learning_rate": (0.03, 0.3), "temperature": (0.07, 0.2), "dropout": (0.1, 0.5)}, self._id_teacher
            ),
            "ials": Model({"alpha": (1, 100), "l2": (0.1, 100)}, self._ials),
            "bpr": Model({"learning_rate": (0.003, 0.1), "regularization": (1e-4, 0.1)}, self._bpr),
            "ease": Model({"l2": (5, 5000)}, self._ease),
            "sequence_teacher": Model(
                {"learning_rate": (0.03, 0.3), "dense_learning_rate": (3e-4, 3e-3), "dropout": (0.1, 0.5)},
                self._sequence_teacher,
            ),
            "sasrec": Model({"lr": (5e-4, 5e-3), "dropout": (0.1, 0.5), "epochs": (3, 12)}, self._sasrec),
            "popularity": Model({}, self._popularity),
        }

    def _id_teacher(self, which: Fit, settings: Settings, seed: int) -> np.ndarray:
        config = IdTeacherConfig(**settings)
        return self._ours(
            "id", build_id_teacher(config, self._users(config, which), seed=seed), config, which, settings, seed
        )

    def _sequence_teacher(self, which: Fit, settings: Settings, seed: int) -> np.ndarray:
        config = SequenceTeacherConfig(**settings)
        teacher = build_sequence_teacher(config, self._users(config, which), seed=seed)
        return self._ours("sequence", teacher, config, which, settings, seed)

    def _ours(
        self,
        name: str,
        teacher: Teacher,
        config: IdTeacherConfig | SequenceTeacherConfig,
        which: Fit,
        settings: Settings,
        seed: int,
    ) -> np.ndarray:
        """Validation chooses the step, the final fit takes as many."""
        key = f"{name}{seed}{sorted(settings.items())}"
        if which == "final" and key not in self.steps:
            builder = build_id_teacher if isinstance(config, IdTeacherConfig) else build_sequence_teacher
            self._ours(
                name, builder(config, self._users(config, "selection"), seed=seed), config, "selection", settings, seed
            )  # type: ignore[arg-type]
        selecting = which == "selection"
        fitted = fit(
            teacher.step,
            steps=config.steps if selecting else self.steps[key],
            seed=seed,
            state=teacher.state,
            checkpoint=self.out / "unfinished",
            key=key + which,
            description=f"{name} · {which}",
            log=lambda metrics, step: None,
            validate=(lambda: float(gains(self._ranks(teacher, which)).mean())) if selecting else None,
            validate_every=config.validate_every if selecting else 0,
            patience=config.patience if selecting else 0,
        )
        if selecting:
            self.steps[key] = fitted.best_step
        return self._ranks(teacher, which)

    def _users(self, config: IdTeacherConfig | SequenceTeacherConfig, which: Fit) -> InMemory:
        return InMemory(self.positives[which], power=config.user_power)

    def _ranks(self, teacher: Teacher, which: Fit) -> np.ndarray:
        known = self.item_ids.get_indexer(self.positives[which].item_ids)
        vectors = teacher.vectors().numpy()
        if hasattr(teacher, "user_states"):
            return self.questions[which].of_states(
                partial(teacher.user_states, torch.from_numpy(vectors)), vectors, known
            )
        return self._of_vectors(which, vectors, cosine=True)

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

    def _ials(self, which: Fit, settings: Settings, seed: int) -> np.ndarray:
        vectors = ials_vectors(
            self.positives[which], dim=64, alpha=settings["alpha"], l2=settings["l2"], iterations=15, seed=seed
        )
        return self._either(which, vectors)

    def _bpr(self, which: Fit, settings: Settings, seed: int) -> np.ndarray:
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        model = BayesianPersonalizedRanking(factors=64, iterations=100, random_state=seed, num_threads=1, **settings)
        model.fit(interactions(self.positives[which]), show_progress=False)
        return self._either(which, np.asarray(model.item_factors[:, :-1]))  # the last is the item's bias

    def _ease(self, which: Fit, settings: Settings, seed: int) -> np.ndarray:
        ids, questions = self.item_ids, self.questions[which]
        nothing = np.zeros((len(ids), 1), np.float32)
        log = self.fold.training(which)
        of = Material(ids, nothing, nothing[:, 0] > 0, {}, log, None, self.recipe.evaluate.seq2item.min_positive)
        subject = Ease(of).fit(l2=settings["l2"])
        ranks = subject.ranks(Asked.of_users(questions.drawn, cold=~of.known))
        return np.where(subject.present[questions.drawn.target], ranks, np.inf)

    def _popularity(self, which: Fit, settings: Settings, seed: int) -> np.ndarray:
        positives = self.positives[which]
        support, present = np.zeros(len(self.item_ids), dtype=np.int64), np.zeros(len(self.item_ids), dtype=bool)
        known = self.item_ids.get_indexer(positives.item_ids)
        support[known], present[known] = positives.support.numpy(), True
        return self.questions[which].of_popularity(support, present)

    def _sasrec(self, which: Fit, settings: Settings, seed: int) -> np.ndarray:
        positives, questions = self.positives[which], self.questions[which]
        known = self.item_ids.get_indexer(positives.item_ids)
        user = np.repeat(np.arange(len(positives.counts)), positives.counts.numpy())
        given, job = self.out / "peer.npz", self.out / "peer.json"
        np.savez(given, user=user, item=known[positives.item.numpy()], query=questions.in_order.query)
        job.write_text(
            json.dumps(
                {
                    "input": str(given),
                    "output": str(self.out / "peer_out.npz"),
                    "loss": "softmax",
                    "negatives": 1,
                    "dim": 64,
                    "length": LENGTH,
                    "seed": seed,
                    "threads": torch.get_num_threads(),
                    **settings,
                    "epochs": round(settings["epochs"]),
                }
            )
        )
        script = Path(__file__).with_name("sasrec_peer.py")
        done = subprocess.run(
            [str(self.venv / "bin" / "python"), str(script), str(job)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"the peer failed:\n{done.stderr[-2000:]}")
        found = np.load(self.out / "peer_out.npz")
        print(f"    SASRec: {found['users'] * round(settings['epochs']) / found['seconds']:.0f} sequences/s")
        states = torch.from_numpy(found["states"])
        return questions.of_states(lambda *question: states, found["vectors"], found["items"])


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


def main() -> None:
    """Tune each contestant on validation, answer the test with several seeds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", default="popularity,ease,bpr,ials,id_teacher,sasrec,sequence_teacher")
    parser.add_argument("--peers", type=Path, help="environment of RecTools; default OUT/peers")
    of = parser.parse_args()
    recipe = load_recipe(of.recipe, of.overrides)
    run(recipe, out=of.out, until="split", say=print)
    names = of.models.split(",")
    venv = peer_environment(of.peers or of.out / "peers") if "sasrec" in names else Path()
    arena = Arena(recipe, of.out, venv=venv)
    tests = arena.questions["final"]
    print(f"{recipe.name}: {len(tests)} test questions of {tests.users} users; {of.trials} trials, {of.seeds} seeds")
    answers: dict[str, list[np.ndarray]] = {}
    print(f"{'':<18}{'NDCG@10':>15}{'R@10':>15}{'validation':>12}  settings")
    for name, model in arena.contestants().items():
        if name not in names:
            continue
        tried = [
            (float(gains(model.answer("selection", settings, 0)).mean()), at, settings)
            for at, settings in enumerate(trials(model.ranges, of.trials))
        ]
        best, _, settings = max(tried, key=lambda each: (each[0], -each[1]))
        seeds = range(of.seeds if model.ranges and name != "ease" else 1)
        answers[name] = [model.answer("final", settings, seed) for seed in seeds]
        cells = []
        for of_case in (gains, lambda ranks: (ranks <= 10).astype(float)):
            values = [100 * float(of_case(ranks).mean()) for ranks in answers[name]]
            cells.append(f"{np.mean(values):.2f} ± {np.std(values):.2f}")
        chosen = " ".join(f"{key}={value:.3g}" for key, value in settings.items())
        print(f"{name:<18}{cells[0]:>15}{cells[1]:>15}{100 * best:>12.2f}  {chosen}", flush=True)
    print("\ndifference by user, points of NDCG@10 [95 % bootstrap interval over users]")
    for ours, peers in PEERS.items():
        for peer in (peer for peer in peers if ours in answers and peer in answers):
            case = np.mean([gains(ranks) for ranks in answers[ours]], axis=0)
            case = case - np.mean([gains(ranks) for ranks in answers[peer]], axis=0)
            low, high = interval(case, tests.drawn.user)
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
