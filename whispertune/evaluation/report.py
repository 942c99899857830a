"""The report of an evaluation: one HTML file with every figure, the worst utterances to listen to, and plots.

check_target(Path("report.html"), MAKER)
with AudioReader() as reader:
    write_page(Path("report.html"), page_of(examination, worst_clips(examination, reader)))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from itertools import groupby
from typing import Final

from whispertune.data.audio import AudioReader
from whispertune.drawing.intervals import Interval, intervals
from whispertune.drawing.markup import Markup, element, join
from whispertune.drawing.page import page
from whispertune.drawing.tables import table
from whispertune.evaluation.clips import Clip, audio_share, make_clip
from whispertune.evaluation.evaluate import Evaluation, Progress
from whispertune.evaluation.examination import Examination
from whispertune.evaluation.noise import noise_section
from whispertune.evaluation.recordings import NEAR_S, Boundaries, CueTimes
from whispertune.evaluation.report_texts import (
    confusion_section,
    entity_section,
    meaning_section,
    term_section,
    worst_section,
)
from whispertune.evaluation.silence import SilenceScores
from whispertune.evaluation.tokens import TokenScores
from whispertune.score.hallucination import HallucinationCounts
from whispertune.score.slices import MIN_ROWS, Slice
from whispertune.score.translation import score_translated

MAKER: Final = "whispertune evaluate"
CLIPS_BYTES: Final = 6_000_000  # of all players and spectrograms, about
SLICES: Final = 30  # of an attribute are shown, those with the most rows
FLAGGED: Final = 100  # are listed
WORDS: Final = 20  # that carry the loss are listed
TEXTS: Final = 20  # on silence are listed

# What is counted, and of an evaluation the figure.
RATES: Final[tuple[tuple[str, Callable[[Evaluation], str]], ...]] = (
    ("WER raw, %", lambda e: _rate(e.scores.wer, e.scores.wer_interval)),
    ("substituted, % of words", lambda e: f"{e.scores.substitutions:.1f}"),
    ("deleted, % of words", lambda e: f"{e.scores.deletions:.1f}"),
    ("inserted, % of words", lambda e: f"{e.scores.insertions:.1f}"),
    ("CER raw, %", lambda e: _rate(e.scores.cer, e.scores.cer_interval)),
    ("WER normalised, %", lambda e: _rate(e.scores.wer_normalized, e.scores.wer_normalized_interval)),
    ("CER normalised, %", lambda e: _rate(e.scores.cer_normalized, e.scores.cer_normalized_interval)),
    ("WER normalised, compounds merged, %", lambda e: f"{e.scores.wer_merged_normalized:.1f}"),
    ("match error rate, raw, %", lambda e: f"{e.scores.mer:.1f}"),
    ("word information lost, raw, %", lambda e: f"{e.scores.wil:.1f}"),
    ("context", lambda e: e.context),
    ("seconds of decoding a second of audio", lambda e: f"{e.seconds / max(e.audio_seconds, 1e-9):.3f}"),
)


def worst_clips(found: Examination, reader: AudioReader, progress: Progress | None = None) -> list[Clip]:
    """The audio of the worst utterances, in their order."""
    segments = {segment.id: segment for segment in found.evaluation.segments}
    share = audio_share(len(found.analysis.worst), CLIPS_BYTES)
    clips = []
    for utterance in found.analysis.worst:
        clips.append(make_clip(segments[utterance.id], reader, share))
        if progress:
            progress(len(clips), len(found.analysis.worst))
    return clips


def page_of(found: Examination, clips: Sequence[Clip], on: date | None = None) -> str:
    """The whole report."""
    sections = [(id_, name, content) for id_, name, content in _sections(found, clips) if content]
    links = (element("li", element("a", name, href=f"#{id_}")) for id_, name, _ in sections)
    title = f"{found.model} on {found.data}"
    body = join(
        element(
            "header",
            element("h1", element("bdi", found.model), " on ", element("bdi", found.data)),
            element("p", _told(found), class_="lead"),
        ),
        element("nav", element("ul", *links), aria_label="Parts of this report"),
        element(
            "main",
            *(element("div", content, id=id_) for id_, _, content in sections),
        ),
        element("footer", f"Written by {MAKER} on {(on or date.today()).isoformat()}."),
    )
    return page(title, body, MAKER)


def _sections(found: Examination, clips: Sequence[Clip]) -> list[tuple[str, str, Markup]]:
    """Of each part its id, its name in the list of parts, and what it shows: nothing where there is nothing."""
    analysis = found.analysis
    flagged = {each.id: each.signs for each in analysis.signs.flagged}
    return [
        ("rates", "Rates", _rates(found)),
        ("cues", "Cue times", _cues(found.times) if found.times else Markup()),
        ("slices", "Slices", _slices(analysis.slices, analysis.alike)),
        ("signs", "Made-up text", _signs(analysis.signs)),
        ("terms", "Terms", term_section(analysis.terms) if analysis.terms else Markup()),
        ("entities", "Entities", entity_section(found.entities) if found.entities else Markup()),
        ("meaning", "Meaning", meaning_section(found.meaning) if found.meaning else Markup()),
        ("confusions", "Confusions", confusion_section(analysis.confusions)),
        ("tokens", "Tokens", _tokens(found.tokens) if found.tokens else Markup()),
        ("noise", "Noise", noise_section(found.noise)),
        ("silence", "Silence", _silence(found.silence) if found.silence else Markup()),
        ("worst", "Worst utterances", worst_section(analysis.worst, clips, flagged, found.evaluation.normalizer)),
    ]


def _told(found: Examination) -> str:
    """What was decoded, and how it was counted."""
    evaluation, scores = found.evaluation, found.evaluation.scores
    rows = f"{found.times.recordings} recordings with {scores.rows} cues" if found.times else f"{scores.rows} rows"
    problems = f" {len(evaluation.problems)} more could not be used." if evaluation.problems else ""
    biased = " These rows also chose the checkpoint, so the figures flatter." if evaluation.biased_by_selection else ""
    return (
        f"{rows}, {evaluation.audio_seconds / 60:.1f} min of audio, decoded by {evaluation.engine}.{problems}{biased} "
        f"All rates are of generated text; normaliser: {scores.normalizer}. Intervals are of 95 %, by bootstrap."
    )


def _rates(found: Examination) -> Markup:
    rows = [(label, *(value(each) for each in found.evaluations.values())) for label, value in RATES]
    blank = [""] * (len(found.evaluations) - 1)
    rows += _translations(found)
    if found.peak_memory_mb is not None:
        rows.append(("peak memory of the process, MB", *blank, f"{found.peak_memory_mb:,.0f}"))
    heads = ("What is counted", *found.evaluations)
    classes = ("", *("number" for _ in found.evaluations))
    content = table("With 95 % intervals", heads, rows, classes=classes, id_="rates-table")
    return element(
        "section",
        element("h2", "Rates"),
        element("div", content, class_="narrow") if not blank else content,
        _drawn(found),
    )


def _translations(found: Examination) -> list[tuple[str, ...]]:
    """BLEU and chrF of every model, where rows are translated."""
    ours = found.analysis.translation
    if ours is None:
        return []
    theirs = [score_translated(found.base.evaluation.utterances, found.base.evaluation.segments)] if found.base else []
    every = [*theirs, ours]
    return [
        (f"BLEU, {ours.bleu_signature}", *(_rate(each.bleu, each.bleu_interval) if each else "" for each in every)),
        (f"chrF, {ours.chrf_signature}", *(_rate(each.chrf, each.chrf_interval) if each else "" for each in every)),
    ]


def _drawn(found: Examination) -> Markup:
    if len(found.evaluations) < 2:
        return Markup()
    every = [(name, each.scores) for name, each in found.evaluations.items()]
    return join(
        element("h3", "Side by side"),
        intervals([Interval(name, s.wer, *s.wer_interval) for name, s in every], "Word error rate, raw", "%"),
        intervals([Interval(name, s.cer, *s.cer_interval) for name, s in every], "Character error rate, raw", "%"),
    )


def _rate(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.1f} ({interval[0]:.1f} to {interval[1]:.1f})"


def _cues(times: CueTimes) -> Markup:
    told = (
        f"{times.cues} cues in the captions, {times.written} in the transcripts. A start is matched where the first "
        "word of a cue is aligned with the first word of one that was transcribed, an end where the last words are."
    )
    heads = ("Boundary", "Matched", "Mean, s", "Median, s", "90 % are within, s", f"Within {NEAR_S:g} s, %")
    rows = [_boundary("starts", times.starts, times.cues), _boundary("ends", times.ends, times.cues)]
    classes = ("", *("number" for _ in heads[1:]))
    return element(
        "section",
        element("h2", "Cue times"),
        element("p", told),
        table("Absolute differences between captions and transcripts", heads, rows, classes=classes, id_="cues-table"),
    )


def _boundary(name: str, found: Boundaries, cues: int) -> tuple[str, ...]:
    seconds = ["–" if each is None else f"{each:.2f}" for each in (found.mean_s, found.median_s, found.p90_s)]
    near = "–" if found.near is None else f"{found.near:.0f}"
    return name, f"{found.matched} of {cues}", *seconds, near


def _slices(found: Sequence[Slice], alike: Sequence[str]) -> Markup:
    shown = []
    for _, group in groupby(found, key=lambda each: each.attribute):
        of_one = list(group)
        most = set(sorted(range(len(of_one)), key=lambda place: -of_one[place].rows)[:SLICES])
        shown += [each for place, each in enumerate(of_one) if place in most]
    same = element("p", f"All rows are alike in {', '.join(alike)}: no slices.") if alike else Markup()
    if not shown:
        return element("section", element("h2", "Slices"), same) if alike else Markup()
    told = (
        "Worse: the 95 % interval of the normalised WER lies above that of all other rows. "
        f"Under {MIN_ROWS} rows nothing is claimed."
    )
    left_out = f", those with the most rows of {len(found)} slices" if len(shown) < len(found) else ""
    heads = ("Slice", "Rows", "WER, %", "CER, %", "WER norm., %", "95 %", "The other rows, %", "Against them")
    classes = ("where", "number", "number", "number", "number", "number", "number", "reason")
    caption = f"Error rates by what the rows are like{left_out}"
    rows = [_slice(each) for each in shown]
    return element(
        "section",
        element("h2", "Slices"),
        element("p", told),
        same,
        table(caption, heads, rows, classes=classes, id_="slices-table"),
    )


def _slice(found: Slice) -> tuple[str, ...]:
    interval = found.wer_normalized_interval
    verdict = {None: "too few rows", True: "worse", False: "not shown to be worse"}[found.worse]
    return (
        f"{found.attribute}: {found.name}",
        f"{found.rows:,}",
        f"{found.wer:.1f}",
        f"{found.cer:.1f}",
        f"{found.wer_normalized:.1f}",
        f"{interval[0]:.1f} to {interval[1]:.1f}" if interval else "–",
        f"{found.rest_wer_normalized:.1f}",
        verdict,
    )


def _signs(found: HallucinationCounts) -> Markup:
    kinds = [
        ("loops", found.loops),
        ("bursts of insertions", found.bursts),
        ("another script", found.other_script),
        ("stopped at the length limit", found.at_limit),
        (f"text where nothing is said, of {found.empty_references} rows", found.on_silence or None),
        ("any of them", len(found.flagged)),
    ]
    rows = [
        (name, f"{count:,}", f"{100 * count / max(1, found.rows):.1f}") for name, count in kinds if count is not None
    ]
    counted = table(
        "Rows with each sign", ("Sign", "Rows", "% of rows"), rows, classes=("", "number", "number"), id_="signs-table"
    )
    return element(
        "section",
        element("h2", "Signs of made-up text"),
        element("p", "A sign is a reason to look, no proof."),
        element("div", counted, class_="narrow"),
        _flagged(found),
    )


def _flagged(found: HallucinationCounts) -> Markup:
    listed = found.flagged[:FLAGGED]
    if not listed:
        return Markup()
    more = f"the first {len(listed)} of {len(found.flagged)}" if len(listed) < len(found.flagged) else "all"
    rows = ((each.id, sign.kind, sign.evidence) for each in listed for sign in each.signs)
    classes = ("where", "reason", "prose")
    content = table(f"Rows with signs, {more}", ("Row", "Sign", "What shows it"), rows, classes=classes, id_="flagged")
    return element("details", element("summary", f"One by one, {more}"), content)


def _tokens(found: TokenScores) -> Markup:
    rows = [
        ("loss, mean nats a token", f"{found.loss:.3f}"),
        ("accuracy, %", f"{found.accuracy:.1f}"),
        ("entropy, mean nats", f"{found.entropy:.3f}"),
        ("expected calibration error, 15 bins, %", f"{found.calibration_error:.1f}"),
        ("of the loss, by tokens that were the likeliest, %", f"{found.loss_share_correct:.1f}"),
        ("of the loss, by the other tokens, %", f"{found.loss_share_wrong:.1f}"),
    ]
    words = [(each.word, f"{each.count:,}", f"{each.loss:.1f}", f"{each.share:.1f}") for each in found.words[:WORDS]]
    told = "Teacher-forced: each token was asked for with the right text before it. No such figure is an error rate."
    figures = table(f"{found.tokens:,} tokens", ("Figure", "Value"), rows, classes=("", "number"), id_="tokens-table")
    heads, classes = ("Word", "Times", "Loss, nats", "% of the loss"), ("where", "number", "number", "number")
    heaviest = table("Words that carry most of the loss", heads, words, classes=classes, id_="loss-words")
    return element(
        "section",
        element("h2", "Tokens, teacher-forced"),
        element("p", told),
        element("div", figures, heaviest, class_="pairs"),
    )


def _silence(found: SilenceScores) -> Markup:
    told = (
        f"Text was written on {found.clips_with_text} of {found.clips} clips in which nobody speaks "
        f"({found.rate:.1f} %), {found.words_a_minute:.1f} words a minute: digital silence, noise and hum, made for "
        "this. Nothing guards the decoder here, as a detector of speech would."
    )
    rows = [(text, f"{clips}") for text, clips in found.texts()[:TEXTS]]
    content = table("What was written", ("Text", "Clips"), rows, classes=("prose", "number"), id_="silence-table")
    return element(
        "section",
        element("h2", "On silence"),
        element("p", told),
        element("div", content, class_="narrow") if rows else None,
    )
