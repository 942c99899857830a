"""Before the first step: what a run trains on, what it trains, and with what.

    data = read_data(recipe, reader, ranks, tell)
    model = open_model(recipe, data, ranks)
    stepper = make_stepper(recipe, data, model, ranks.wrap(model.module), cache, tell.say)

The loop and the search for a learning rate begin the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from whispertune.data.audio import AudioReader
from whispertune.data.keyed import keyed_rng
from whispertune.data.problems import summary
from whispertune.evaluation.retention import RetentionSet
from whispertune.model.adapters import AdapterSettings
from whispertune.model.load import ModelFolder, find_model
from whispertune.model.loss import SummedLoss
from whispertune.model.parameters import Choice, Parameters, prepare
from whispertune.recipe import Recipe, Train
from whispertune.reporting import Reporter
from whispertune.train.across.ranks import Ranks
from whispertune.train.across.wrapped import Wrapped
from whispertune.train.feeding.mixture import count_windows, make_plan
from whispertune.train.feeding.plan import Plan
from whispertune.train.feeding.splits import SPLITS, Splits, TokenCounter, load_splits
from whispertune.train.learning.allocator import keep_freed_memory
from whispertune.train.learning.micro import CPU_WINDOWS, CudaMemory, MicroBatch, find_seconds, full_batch, lend_memory
from whispertune.train.learning.optimizers import make_optimizer
from whispertune.train.learning.schedule import Extent, default_learning_rate
from whispertune.train.measuring.retention import load_retention
from whispertune.train.result import COUNTED_SEGMENTS, told_at_the_start
from whispertune.train.states.frozen import FrozenPrefix, StateCache, needed_bytes, states_folder, weights_key
from whispertune.train.states.state_files import prune
from whispertune.train.step import Stepper
from whispertune.windows.augment import Augmenter, AugmentSettings
from whispertune.windows.labels import MAX_INPUTS
from whispertune.windows.pack import WINDOW_S, Limits

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

Say = Callable[[str], None]

MOMENTS_BYTES = 8  # of AdamW, a trained weight
AVERAGE_BYTES = 4  # of a moving average, likewise


@dataclass(frozen=True, slots=True)
class Data:
    """What a run trains on and is measured with."""

    folder: ModelFolder
    splits: Splits
    limits: Limits
    count_tokens: TokenCounter
    augment: Augmenter
    retention: tuple[RetentionSet, ...] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """What a run trains."""

    whisper: WhisperForConditionalGeneration
    module: SummedLoss
    parameters: Parameters
    peak: float  # the highest learning rate
    fixed: bool  # the same windows in every epoch: what the frozen beginning of the encoder gives is the same each time
    keeps_states: bool  # and it is kept
    encoder_frozen: bool  # all of it: what it gives of dev is the same in every evaluation


def read_data(recipe: Recipe, reader: AudioReader, ranks: Ranks, tell: Reporter) -> Data:
    """Everything that can be wrong with the data or the recipe is found here, on every rank, before it costs much.

    Raises:
        InputError: the recipe, its data or its model cannot be used.
    """
    ranks.check(recipe.train)
    augment = ranks.together(lambda: Augmenter(AugmentSettings(**recipe.augment.model_dump()), recipe.seed, reader))
    ranks.on_main(lambda: find_model(recipe.model).name)  # fetches and converts; the others find it done
    folder = ranks.together(lambda: find_model(recipe.model))
    limits = Limits(recipe.windows.max_tokens, recipe.windows.max_gap_s, recipe.windows.max_lead_s)
    count_tokens = TokenCounter(folder.vocabulary)
    splits = ranks.together(lambda: load_splits(recipe, folder.vocabulary, reader, count_tokens, limits, tell.working))
    retention = ranks.together(lambda: load_retention(recipe, folder.vocabulary, reader, splits.train.segments))
    return Data(folder, splits, limits, count_tokens, augment, retention)


def open_model(recipe: Recipe, data: Data, ranks: Ranks) -> Model:
    """The model with what of it is trained, not on its device yet.

    Raises:
        RecipeError: a pattern that matches nothing, or nothing left to train.
    """
    import torch

    settings = recipe.train
    if ranks.device.type == "cpu":
        keep_freed_memory()
    whisper = data.folder.load(settings.dropout)
    torch.manual_seed(int(keyed_rng(recipe.seed, "adapters").integers(2**62)))  # they begin at random
    parameters = prepare(whisper, _choice(settings), str(ranks.device))
    module = SummedLoss(
        whisper,
        ranks.precision,
        label_smoothing=settings.label_smoothing,
        stochastic_depth=settings.stochastic_depth,
        checkpointing=settings.activation_checkpointing,
        compiled=settings.compile,
    )
    peak = settings.learning_rate or default_learning_rate(data.folder.shape.width, settings.method)
    same_each_time = not (data.augment.active or data.splits.streams)
    fixed = bool(parameters.frozen_prefix and settings.cache_gb and same_each_time)  # however many ranks there are
    whole = parameters.frozen_prefix > len(whisper.model.encoder.layers)
    return Model(
        whisper,
        module,
        parameters,
        peak,
        fixed,
        keeps_states=fixed and not ranks.sharded,
        encoder_frozen=whole and settings.base_bits is None,  # in few bits it is not the base model's
    )


def _choice(settings: Train) -> Choice:
    lora = settings.lora
    adapters = AdapterSettings(lora.rank, lora.alpha, lora.dropout, lora.rslora, lora.dora)
    return Choice(settings.method, settings.freeze, lora.targets, adapters, settings.base_bits)


def plan_run(recipe: Recipe, data: Data, model: Model, ranks: Ranks, tell: Reporter) -> Plan:
    """The windows of every step, known from the seed alone.

    Raises:
        RecipeError: the length of a source would have to be known and is not.
    """
    vocabulary, fixed = data.folder.vocabulary, model.fixed
    given = (recipe, data.splits, data.limits, vocabulary, data.count_tokens, ranks.rank, ranks.count)
    return ranks.together(lambda: make_plan(*given, fixed=fixed, packing=partial(tell.working, "packing")))


def describe(recipe: Recipe, data: Data, model: Model, extent: Extent) -> list[str]:
    """What is about to be trained, on what, for people."""
    splits, windows = data.splits, 0
    if splits.parts:
        windows = round(count_windows(recipe, splits, data.limits, data.count_tokens, COUNTED_SEGMENTS))
    problems = [summary(getattr(splits, name), name) for name in SPLITS if getattr(splits, name).problems]
    notes = (*splits.notes, *data.augment.notes, *(note for each in data.retention for note in each.notes))
    return [*notes, *problems, told_at_the_start(splits, windows, extent), model.parameters.told]


def open_cache(recipe: Recipe, data: Data, model: Model, plan: Plan, ranks: Ranks, say: Say) -> StateCache | None:
    """Where the frozen encoder's states are kept; how much that takes is said. None where that place cannot be used."""
    root, width = states_folder(), data.folder.shape.width
    limit = round(recipe.train.cache_gb * 1e9)
    weights = weights_key(model.whisper.model.encoder, ranks.precision, ranks.device.type)
    needed = needed_bytes(plan, width)
    try:
        ranks.on_main(lambda: prune(root, limit, root / weights, needed))
        cache = StateCache(root, width, weights, limit, rank=ranks.rank, ranks=ranks.count, say=say)
    except OSError as error:  # a home that is read-only, or a file system without locks
        say(f"what the frozen encoder gives is not kept ({root}: {error.strerror}), and computed each time")
        return None
    say(cache.told(needed))
    return cache


def make_stepper(
    recipe: Recipe, data: Data, model: Model, wrapped: Wrapped, cache: StateCache | None, say: Say
) -> Stepper:
    """The optimizer and all that a step takes. Made when the model is on its device."""
    settings, ranks, shape = recipe.train, wrapped.ranks, data.folder.shape
    optimizer = make_optimizer(wrapped.inner.named_parameters(), settings.optimizer, model.peak, settings.weight_decay)
    micro = MicroBatch(_micro_seconds(recipe, shape.n_mels, model, wrapped), say, ranks=ranks.count)
    frozen = None
    if model.keeps_states:
        frozen = FrozenPrefix(model.whisper.model.encoder, shape.n_mels, ranks.precision, str(ranks.device), cache)
    return Stepper(
        wrapped,
        optimizer,
        data.folder,
        micro,
        seed=recipe.seed,
        max_grad_norm=settings.max_grad_norm,
        frozen=frozen,
        mixed=not (settings.compile or ranks.sharded),  # compiled anew for each mixture; shards are fetched in step
    )


def _micro_seconds(recipe: Recipe, n_mels: int, model: Model, wrapped: Wrapped) -> float:
    """Seconds of audio in one forward pass: what the recipe says, or on a GPU what memory allows."""
    settings, ranks = recipe.train, wrapped.ranks
    if settings.micro_windows is not None:
        return WINDOW_S * settings.micro_windows
    if ranks.device.type != "cuda" or ranks.sharded:  # sharded ranks would have to try in step
        return WINDOW_S * CPU_WINDOWS

    wrapped.inner.train()
    attempt = partial(try_batch, wrapped, n_mels)
    most_s = WINDOW_S * (settings.step_windows or settings.segments_a_step or 1)
    each_bytes = MOMENTS_BYTES + (AVERAGE_BYTES if settings.average == "ema" else 0)
    found = find_seconds(attempt, CudaMemory(), most_s, reserve_bytes=each_bytes * model.parameters.trained)
    lend_memory()  # torch keeps what the largest attempt took
    return -float(ranks.most(-round(found)))  # what the smallest can take


def try_batch(wrapped: Wrapped, n_mels: int, seconds: float) -> None:
    """Forwards and backwards over so many seconds, at their longest; no gradients are left, whatever happens."""
    batch = full_batch(seconds, n_mels, MAX_INPUTS, str(wrapped.ranks.device))
    try:
        with wrapped.exchanging(False):
            wrapped.backward(wrapped(batch))
    finally:
        wrapped.inner.zero_grad()
