"""Teacher-forced figures: how sure a model is of each token of a text, all tokens before it given to it.

    live = load_live(find_model("my-run"))
    scores = token_scores(live, segments, reader, context="full")
    scores.loss, scores.accuracy, scores.calibration_error     # nats a token, per cent, per cent
    scores.words[0]         # WordLoss("Köping", count=3, loss=21.4, share=4.2): 4.2 % of the loss
    tally = Tally(live)                                 # or while an engine decodes, which costs no second encoding
    decode_segments(engine, segments, source, listener=tally)
    tally.found.scores()    # sums of several ranks, each with its share of the rows, are added: first + second
    mean_loss(tally.rows.values())                      # the same loss; or of those rows that other models have too

A clip a window, without times and without previous text. The prefix (start, language, task) is given and not counted;
what is counted are the tokens of the text and the end of it. No token is suppressed. These figures say how a model
rates the right text, not what it writes: a model that is sure of what is wrong has more loss and may have a lower WER.

The calibration error is the expected one (Naeini et al., 2015; Guo et al., 2017): tokens in 15 bins by the probability
of the likeliest answer, and the mean distance between that probability and the share of right answers in a bin.

A word is what white space parts, its punctuation with it; in scripts without spaces it is a token, or the several
tokens that spell one character. The end of a text stands among the words by its name, `<|endoftext|>`.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from heapq import nsmallest
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Problem, Segment
from whispertune.decode.context import Context
from whispertune.decode.engines import LiveModel
from whispertune.errors import DataError
from whispertune.evaluation.evaluate import Progress, TeacherForced
from whispertune.evaluation.inputs import Clips, Source, batches
from whispertune.languages import is_unspaced
from whispertune.windows.batches import collate_labels
from whispertune.windows.labels import IGNORE, Labels, label
from whispertune.windows.pack import Piece, Window
from whispertune.windows.tokens import Vocabulary

if TYPE_CHECKING:
    import torch
    from transformers import WhisperForConditionalGeneration

BINS = 15  # of equal width, as Guo et al. have it
MOST_WORDS = 50
CHUNK_TOKENS = 256  # that logits are there for at once: 53 MB of them in float32, and as much four times over
PART_OF_A_CHARACTER = "\ufffd"  # what the bytes of less than a character decode to


@dataclass(frozen=True, slots=True)
class WordLoss:
    """A word, how often it was to be written, and the loss of all its tokens."""

    word: str
    count: int
    loss: float  # nats, summed
    share: float  # of the loss of all tokens, per cent


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Teacher-forced figures of one model on one set of segments."""

    tokens: int  # of texts and their ends
    loss: float  # mean cross-entropy a token, nats
    accuracy: float  # teacher-forced: tokens that were the likeliest, per cent
    entropy: float  # of the answers, mean, nats
    calibration_error: float  # expected, 15 bins, per cent
    loss_share_correct: float  # of the loss, carried by tokens that were the likeliest, per cent
    loss_share_wrong: float
    words: tuple[WordLoss, ...]  # those that carry most of the loss first, at most 50
    rows: int = 0
    problems: tuple[Problem, ...] = ()  # rows that are not among them

    def brief(self) -> TeacherForced:
        """What stands beside the rates of an evaluation."""
        return TeacherForced(self.loss, self.accuracy, self.calibration_error)

    def as_json(self) -> dict[str, Any]:
        """The figures under the names that `--json` promises; shares in per cent."""
        figures = asdict(self)
        left_out, words = figures.pop("problems"), figures.pop("words")
        return {"measured": "teacher-forced", **figures, "rows_left_out": len(left_out), "words": list(words)}


@dataclass(frozen=True, slots=True)
class RowLoss:
    """What the tokens of one row cost a model."""

    nats: float  # summed
    tokens: int


def mean_loss(rows: Iterable[RowLoss]) -> float | None:
    """Mean cross-entropy a token; None where there is no row."""
    rows = tuple(rows)
    return sum(each.nats for each in rows) / sum(each.tokens for each in rows) if rows else None


@dataclass(frozen=True, slots=True)
class Bin:
    """Tokens whose likeliest answer had about the same probability."""

    tokens: int = 0
    correct: int = 0
    confidence: float = 0.0  # these probabilities, summed

    def __add__(self, other: Bin) -> Bin:
        return Bin(self.tokens + other.tokens, self.correct + other.correct, self.confidence + other.confidence)


@dataclass(frozen=True, slots=True)
class TokenTally:
    """Sums over tokens, of which those of several shares of the rows are added."""

    rows: int = 0
    loss_correct: float = 0.0  # nats, of the tokens that were the likeliest
    loss_wrong: float = 0.0
    entropy: float = 0.0
    bins: tuple[Bin, ...] = (Bin(),) * BINS
    words: Mapping[str, tuple[int, float]] = field(default_factory=dict)  # word -> how often, loss
    problems: tuple[Problem, ...] = ()

    def __add__(self, other: TokenTally) -> TokenTally:
        return TokenTally.of((self, other))

    @staticmethod
    def of(parts: Iterable[TokenTally]) -> TokenTally:
        """The sums of many."""
        parts = (TokenTally(), *parts)
        words: dict[str, tuple[int, float]] = {}
        for part in parts:
            for word, (count, loss) in part.words.items():
                before = words.get(word, (0, 0.0))
                words[word] = (before[0] + count, before[1] + loss)
        return TokenTally(
            rows=sum(part.rows for part in parts),
            loss_correct=sum(part.loss_correct for part in parts),
            loss_wrong=sum(part.loss_wrong for part in parts),
            entropy=sum(part.entropy for part in parts),
            bins=tuple(sum(bins, Bin()) for bins in zip(*(part.bins for part in parts), strict=True)),
            words=words,
            problems=tuple(problem for part in parts for problem in part.problems),
        )

    def scores(self) -> TokenScores:
        """The figures that the sums come to.

        Raises:
            DataError: there are no tokens.
        """
        tokens = sum(each.tokens for each in self.bins)
        if not tokens:
            raise DataError("no token to score", fix="check the data: no segment with a text could be read")
        loss = self.loss_correct + self.loss_wrong
        return TokenScores(
            tokens=tokens,
            loss=loss / tokens,
            accuracy=100.0 * sum(each.correct for each in self.bins) / tokens,
            entropy=self.entropy / tokens,
            calibration_error=100.0 * sum(abs(each.correct - each.confidence) for each in self.bins) / tokens,
            loss_share_correct=_per_cent(self.loss_correct, loss),
            loss_share_wrong=_per_cent(self.loss_wrong, loss),
            words=self._heaviest(loss),
            rows=self.rows,
            problems=self.problems,
        )

    def _heaviest(self, loss: float) -> tuple[WordLoss, ...]:
        heaviest = nsmallest(MOST_WORDS, self.words.items(), key=lambda item: (-item[1][1], item[0]))
        return tuple(WordLoss(word, count, found, _per_cent(found, loss)) for word, (count, found) in heaviest)


def _per_cent(part: float, whole: float) -> float:
    return 100.0 * part / whole if whole else 0.0


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model answered for each token, window after window: (tokens,) each."""

    losses: NDArray[np.float64]  # nats
    entropies: NDArray[np.float64]  # nats
    confidences: NDArray[np.float64]  # the probability of the likeliest answer
    correct: NDArray[np.bool_]  # whether that was the right one

    def tally(self, texts: Iterable[Sequence[tuple[str, int]]]) -> TokenTally:
        """The sums, of texts given as words and how many tokens each takes."""
        texts = tuple(texts)
        words: dict[str, tuple[int, float]] = {}
        at = 0
        for word, tokens in (each for text in texts for each in text):
            count, loss = words.get(word, (0, 0.0))
            words[word] = (count + 1, loss + float(self.losses[at : at + tokens].sum()))
            at += tokens
        return TokenTally(
            rows=len(texts),
            loss_correct=float(self.losses[self.correct].sum()),
            loss_wrong=float(self.losses[~self.correct].sum()),
            entropy=float(self.entropies.sum()),
            bins=self._bins(),
            words=words,
        )

    def by_row(self, tokens: Sequence[int]) -> list[RowLoss]:
        """The losses of each row, which have so many tokens."""
        parts = np.split(self.losses, np.cumsum(tokens)[:-1])
        return [RowLoss(float(part.sum()), len(part)) for part in parts]

    def _bins(self) -> tuple[Bin, ...]:
        """The m-th holds what is above (m - 1) / 15 and at most m / 15."""
        upper = np.arange(1, BINS) / BINS
        places = np.searchsorted(upper, self.confidences, side="left")
        tokens, correct, confidence = (
            np.bincount(places, weights=weights, minlength=BINS)
            for weights in (None, self.correct.astype(np.float64), self.confidences)
        )
        return tuple(Bin(int(n), int(c), float(p)) for n, c, p in zip(tokens, correct, confidence, strict=True))


def token_scores(
    live: LiveModel,
    segments: Sequence[Segment],
    reader: AudioReader,
    *,
    context: Context,
    batch: int = 8,
    precision: str = "auto",
    progress: Progress | None = None,
) -> TokenScores:
    """Teacher-forced figures of a model in memory, which may be in training and is left as it was.

    `batch` windows are computed at once; with context "fit", as many clips as make up their length. `precision` is
    that of the products: float32, bfloat16, float16, or what suits the device.

    Raises:
        DataError: no segment has a text and can be read.
        InputError: the model has no token for a segment's language or task.
    """
    tally, source, done = Tally(live, precision), Source(reader, context), 0
    for chunk in batches(segments, batch, context):
        clips, unreadable = source.read(chunk, live.shape.n_mels)
        tally.parts.append(TokenTally(problems=tuple(unreadable)))
        if clips is not None:
            tally(clips)
        done += len(chunk)
        if progress:
            progress(done, len(segments))
    return tally.found.scores()


class Tally:
    """Sums up what clips that an engine decodes would have to say; for `decode_segments` to hand them to."""

    def __init__(self, live: LiveModel, precision: str = "auto") -> None:
        self.live, self.precision = live, precision
        self.parts: list[TokenTally] = []
        self.rows: dict[str, RowLoss] = {}  # by id
        self.seconds = 0.0  # that counting took, which are no seconds of decoding

    def __call__(self, clips: Clips) -> None:
        """Count a batch; where the engine tells the states of its encoder, nothing is encoded again."""
        start = time.perf_counter()
        found = [_labels(each, self.live.vocabulary) for each in clips.segments]
        rows = [row for row, each in enumerate(found) if isinstance(each, Labels)]
        self.parts.append(TokenTally(problems=tuple(each for each in found if isinstance(each, Problem))))
        if rows:
            labels = [each for each in found if isinstance(each, Labels)]
            with _undisturbed(self.live.model):
                answers = _answers(self.live, clips.rows(rows), labels, self.precision)
            texts = [_words(each, self.live.vocabulary) for each in labels]
            self.parts.append(answers.tally(texts))
            losses = answers.by_row([sum(tokens for _, tokens in text) for text in texts])
            self.rows |= dict(zip((clips.segments[row].id for row in rows), losses, strict=True))
        self.seconds += time.perf_counter() - start

    @property
    def found(self) -> TokenTally:
        """The sums so far."""
        return TokenTally.of(self.parts)


def spelled(tokens: Sequence[int], vocabulary: Vocabulary) -> list[tuple[str, int]]:
    """The words that text tokens spell, and how many tokens each takes."""
    words: list[list[int]] = []
    for token in tokens:
        if words and not _begins(vocabulary.decode(words[-1]), vocabulary.decode([token])):
            words[-1].append(token)
        else:
            words.append([token])
    return [(vocabulary.decode(word).strip(), len(word)) for word in words]


def _begins(before: str, piece: str) -> bool:
    """Whether a word begins with a token, after what was spelled of the one before."""
    if not before.strip():
        return False
    if piece[:1].isspace():
        return True
    if before.endswith(PART_OF_A_CHARACTER) or unicodedata.category(piece[0]).startswith("M"):
        return False
    return is_unspaced(before[-1]) or is_unspaced(piece[0])


def _labels(segment: Segment, vocabulary: Vocabulary) -> Labels | Problem:
    """The labels that training would give a segment, alone and without times."""
    if not segment.text.strip():
        return Problem(segment.id, "empty text", "there is no text to be sure of")
    piece = Piece(segment.recording, segment.start_s, segment.end_s, (segment,), tokens=0)  # not packed: none counted
    try:
        return label(Window((piece,)), vocabulary, timestamps=False, prompted=False, language_loss=False)
    except ValueError as error:
        return Problem(segment.id, "text too long for the decoder", str(error))


def _words(labels: Labels, vocabulary: Vocabulary) -> list[tuple[str, int]]:
    """The words that are counted of a text, its end among them."""
    *text, end = (target for target in labels.targets if target != IGNORE)
    return [*spelled(text, vocabulary), (vocabulary.names([end])[0], 1)]


@contextmanager
def _undisturbed(model: WhisperForConditionalGeneration) -> Iterator[None]:
    """Within it the model drops nothing out, skips and compiles nothing; afterwards it is set as it was."""
    from whispertune.model.encoder import swap_encoder
    from whispertune.model.layers import layers_of

    swap_encoder(model)
    modes = [(module, module.training) for module in model.modules()]
    compiled = [(layer, layer.compiled) for layer in layers_of(model)]
    model.eval()
    for layer, _ in compiled:  # other lengths would be compiled anew, and what is compiled for training let go
        layer.compiled = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for layer, was in compiled:
            layer.compiled = was


def _answers(live: LiveModel, clips: Clips, labels: Sequence[Labels], precision: str) -> Answers:
    """Of all counted tokens of the clips."""
    import torch

    from whispertune.model.layers import decode
    from whispertune.model.loss import HALVES, resolve_precision

    model, device = live.model, live.model.device
    products = HALVES.get(resolve_precision(precision, str(device)))
    inputs, targets = collate_labels(labels, live.vocabulary.end, str(device))
    # without a gradient, but no inference mode: what is computed there would be of no use to a training that keeps it
    with torch.no_grad(), torch.autocast(device.type, dtype=products, enabled=products is not None):
        if clips.states is None:
            encoded = model.model.encoder.whole([clips.inputs.to(device)])  # (rows, frames / 2, width)
        else:
            encoded = clips.states.to(device)
        hidden = decode(model.model.decoder, [inputs], encoded)  # (rows, tokens, width)
        wanted = targets != IGNORE
        parts = (torch.split(each[wanted], CHUNK_TOKENS) for each in (hidden, targets))
        figures = torch.cat([_figures(model.proj_out(some), right) for some, right in zip(*parts, strict=True)], dim=1)
    losses, entropies, confidences, correct = figures.cpu().double().numpy()
    return Answers(losses, entropies, confidences, correct > 0)


def _figures(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Loss, entropy, probability of the likeliest answer and whether it is right: float32, (4, tokens).

    Args:
        logits: (tokens, vocabulary).
        targets: int64, (tokens,).
    """
    import torch

    logs = torch.log_softmax(logits.float(), dim=-1)
    losses = -logs.gather(1, targets[:, None])[:, 0]
    best, likeliest = logs.max(dim=-1)
    entropies = -(logs.exp() * logs).sum(dim=-1)
    return torch.stack([losses, entropies, best.exp(), (likeliest == targets).float()])
