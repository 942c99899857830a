"""Parts of an evaluation's report that show texts: confusions, terms, and the worst utterances with their audio.

confusion_section(analysis.confusions)
meaning_section(meaning), entity_section(entities)
worst_section(analysis.worst, clips, {"a:3": signs})       # a card each: alignment, player, spectrogram
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from whispertune.drawing.markup import Markup, element, join
from whispertune.drawing.tables import table
from whispertune.evaluation.clips import CLIP_S, Clip, place, player
from whispertune.score.confusions import Confusion, Confusions
from whispertune.score.entities import EntityScores
from whispertune.score.hallucination import Sign
from whispertune.score.meaning import MeaningScores
from whispertune.score.normalize import Normalizer, leads_with_cer, normalizer_for
from whispertune.score.normalizers.scripts import by_character
from whispertune.score.terms import TermRow, TermScores
from whispertune.score.wer import Counts, Edit, UtteranceScore, align_all
from whispertune.score.written import text_language

RUN_WORDS: Final = 40  # of one edit are shown; a loop may have hundreds
CONFUSIONS: Final = 12  # of a kind are listed
TERMS: Final = 50  # are listed
CHANGED: Final = 20  # utterances that lost most of their meaning are listed
NOTHING: Final = "–"


def confusion_section(found: Confusions) -> Markup:
    """What was confused with what, four tables."""
    tables = [
        _confusions("Words heard as others", found.pairs, "confused-words"),
        _confusions("Characters inside of them", found.characters, "confused-characters"),
        _confusions("Words left out", found.deleted, "left-out"),
        _confusions("Words made up", found.inserted, "made-up"),
    ]
    if not any(tables):
        return Markup()
    told = "Normalised words, most often first. Utterances that loop are left out: each turn would count."
    return element(
        "section",
        element("h2", "Confusions"),
        element("p", told),
        element("div", *tables, class_="pairs"),
    )


def _confusions(caption: str, found: Sequence[Confusion], id_: str) -> Markup:
    if not found:
        return Markup()
    rows = [_confusion(each) for each in found[:CONFUSIONS]]
    heads, classes = ("Said", "Written", "Times", "Of"), ("where", "where", "number", "number")
    return table(caption, heads, rows, classes=classes, id_=id_)


def _confusion(found: Confusion) -> tuple[str, str, str, str]:
    of = f"{found.occurrences:,}" if found.reference else NOTHING
    return found.reference or NOTHING, found.heard or NOTHING, f"{found.count:,}", of


def entity_section(found: EntityScores) -> Markup:
    """Errors in the words of named entities, and elsewhere."""
    sides = [
        ("in the words of entities", found.alone, found.alone_normalized),
        ("in all other words", found.left_out, found.left_out_normalized),
    ]
    rows = [(name, f"{raw.reference_length:,}", _rate(raw), _rate(normalized)) for name, raw, normalized in sides]
    kinds = [(each.kind, f"{each.entities:,}", f"{each.right:,}") for each in found.kinds]
    recall = "" if found.recall is None else f", {found.recall:.1f} % of them without an error"
    heads, classes = ("Where", "Words", "WER, %", "WER norm., %"), ("", "number", "number", "number")
    return element(
        "section",
        element("h2", "Named entities"),
        element("p", f"{found.entities:,} in the references, found by {found.tagger}{recall}."),
        element(
            "div",
            table("Errors", heads, rows, classes=classes, id_="entities-table"),
            table("By kind", ("Kind", "Entities", "Right"), kinds, classes=("where", "number", "number"), id_="kinds"),
            class_="pairs",
        ),
    )


def _rate(counts: Counts) -> str:
    return f"{counts.rate:.1f}" if counts.reference_length else NOTHING


def meaning_section(found: MeaningScores) -> Markup:
    """What wrong words cost in meaning, and where they cost most."""
    told = (
        f"{found.lost:.1f} % of the meaning is lost over all {found.rows:,} rows, of which {len(found.wrong):,} have "
        f"wrong words; by {found.model}. A negation that was dropped or added counts as all of a row."
    )
    rows = [
        (each.reference, each.hypothesis, f"{100 * each.lost:.0f}", "negated" if each.negated else "")
        for each in found.wrong[:CHANGED]
    ]
    heads, classes = ("Said", "Written", "Lost, %", ""), ("prose", "prose", "number", "reason")
    content = table("Where most is lost", heads, rows, classes=classes, id_="meaning-table")
    return element("section", element("h2", "Meaning"), element("p", told), content if rows else None)


def term_section(found: TermScores) -> Markup:
    """How many of the wanted words came out right, and which did not."""
    recall, precision = (NOTHING if each is None else f"{each:.1f} %" for each in (found.recall, found.precision))
    told = (
        f"{found.hits} of {found.occurrences} times that one of {found.terms} terms is said it is written right: "
        f"recall {recall}, precision {precision}; {found.false_insertions} times one is written that is not said. "
        f"Beside {found.near} of the misses something like the term is written, which changes no figure."
    )
    rows = [_term(each) for each in found.wrong[:TERMS]]
    heads = ("Term", "Said", "Right", "Made up", "Written instead, % alike")
    classes = ("where", "number", "number", "number", "prose")
    content = table("Terms with errors, most first", heads, rows, classes=classes, id_="terms-table")
    return element("section", element("h2", "Terms"), element("p", told), content if rows else None)


def _term(row: TermRow) -> tuple[str, ...]:
    near = ", ".join(f"{each.written} ({each.similarity:.0f})" for each in row.near)
    return row.term, f"{row.occurrences}", f"{row.hits}", f"{row.false_insertions}", near or NOTHING


def worst_section(
    worst: Sequence[UtteranceScore],
    clips: Sequence[Clip],
    signs: Mapping[str, Sequence[Sign]],
    named: Normalizer | None = None,
) -> Markup:
    """The utterances that cost the set most, each with its alignment and its audio.

    `named` is the normalizer that all were counted by, where that is not the one of each language.
    """
    if not worst:
        return Markup()
    told = join(
        "Those with the most normalised word errors. ",
        element("del", "Struck out"),
        ": said and not written. ",
        element("ins", "Underlined"),
        ": written and not said.",
    )
    cards = (
        _card(rank, utterance, clip, signs.get(utterance.id, ()), named)
        for rank, (utterance, clip) in enumerate(zip(worst, clips, strict=True), start=1)
    )
    return element(
        "section",
        element("h2", "Worst utterances"),
        element("p", told, class_="edits"),
        element("ol", *cards, class_="cards"),
    )


def _card(rank: int, utterance: UtteranceScore, clip: Clip, signs: Sequence[Sign], named: Normalizer | None) -> Markup:
    words, segment, language = utterance.words_normalized, clip.segment, text_language(clip.segment)
    unit = "characters" if (named or normalizer_for(language)).words_are_characters else "words"
    errors = "1 error" if words.errors == 1 else f"{words.errors} errors"
    doubts = "; ".join(f"{sign.kind}: {sign.evidence}" for sign in signs)
    cut = f", cut to {CLIP_S:.0f} s" if clip.cut else ""
    return element(
        "li",
        element("p", f"{rank} · {errors} in {words.reference_length} {unit}", class_="why"),
        element("p", alignment(utterance, language), class_="text edits", dir="auto", lang=language),
        element("p", doubts, class_="facts", dir="auto") if doubts else None,
        player(clip),
        element("p", f"{segment.duration_s:.2f} s{cut}", class_="facts"),
        element("p", element("bdi", place(segment)), class_="facts"),
        class_="card",
    )


def alignment(utterance: UtteranceScore, language: str) -> Markup:
    """What was said and what was written in one text; of languages without spaces character by character."""
    unspaced = leads_with_cer(language)
    edits: Sequence[Edit] = utterance.alignment
    if unspaced:
        texts = by_character(utterance.reference), by_character(utterance.hypothesis)
        edits = align_all([texts[0]], [texts[1]])[0].edits
    gap = "" if unspaced else " "
    return Markup(gap.join(_edit(edit, gap) for edit in edits))


def _edit(edit: Edit, gap: str) -> Markup:
    if edit.kind == "=":
        return join(gap.join(edit.reference))
    said = element("del", _shown(edit.reference, gap)) if edit.reference else None
    written = element("ins", _shown(edit.hypothesis, gap)) if edit.hypothesis else None
    return join(said, gap if said and written else None, written)


def _shown(words: Sequence[str], gap: str) -> str:
    left = len(words) - RUN_WORDS
    return gap.join(words[:RUN_WORDS]) + (f" … and {left} more" if left > 0 else "")
