"""Hooks that every training gets, and those that a config or option adds."""

from .accumulation_hook import AccumulationHook
from .atomic_checkpoint_hook import AtomicCheckpointHook
from .compile_hook import CompileHook
from .deterministic_hook import DeterministicHook
from .evaluation_algorithms_hook import EvaluationAlgorithmsHook
from .first_score_hook import FirstScoreHook
from .nonfinite_hook import NonFiniteHook
from .predictions_hook import PredictionsHook
from .preemption_hook import PreemptionHook
from .sanity_check_hook import SanityCheckHook
from .seed_hook import SeedHook
from .skipped_samples_hook import SkippedSamplesHook

__all__ = [
    'AccumulationHook',
    'AtomicCheckpointHook',
    'CompileHook',
    'DeterministicHook',
    'EvaluationAlgorithmsHook',
    'FirstScoreHook',
    'NonFiniteHook',
    'PredictionsHook',
    'PreemptionHook',
    'SanityCheckHook',
    'SeedHook',
    'SkippedSamplesHook',
]
