"""The card of a published model: from its run's own files, nothing in it that is not known.

text = card(read_facts(run), exports, "me/whisper-small-sv", licence="apache-2.0", multilingual=True, rows=rows)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from whispertune.data.segments import Segment
from whispertune.languages import LANGUAGE_NAMES
from whispertune.model.naming import hub_name
from whispertune.publish.card_results import exports_table, results, retention
from whispertune.publish.exported import Exported
from whispertune.publish.facts import RunFacts, SourceFacts
from whispertune.publish.failures import known_failures
from whispertune.publish.metadata import metadata
from whispertune.publish.translated import Translated, translated
from whispertune.publish.usage import ADAPTER_FORMAT, NEEDS, TITLES, Spoken, remark, usage

NOT_STATED: Final = "not stated"
NOT_WRITTEN: Final = "not written down by this run"
MORE_LANGUAGES: Final = " and the languages that rows alone name"


def card(
    facts: RunFacts,
    exports: Sequence[Exported],
    repository: str,
    *,
    licence: str | None,
    multilingual: bool,
    rows: Sequence[Segment] = (),
) -> str:
    """README.md of a model.

    Args:
        facts: what the run wrote down.
        exports: what lies beside the card.
        repository: where it will lie on the hub.
        licence: of the tuned model, as the hub writes it; None where nobody said.
        multilingual: whether the model is told languages and tasks.
        rows: the segments of the split that reports, where they are at hand.
    """
    translations = translated(facts, rows)
    labels = {str(n): each.label for n, each in enumerate(_of(facts, facts.tuned.split))}
    sections = {
        "Results": results(facts, rows, translations),
        "What the base model could do": retention(facts.retention),
        "Known failures": known_failures(facts.tuned.utterances, rows, labels if len(labels) > 1 else {}),
        "Data": _data(facts),
        "How it was made": _made(facts),
        "Formats": exports_table(exports),
        "Use": _use(facts, exports, repository, multilingual, rows),
        "Licence and origin": _licences(facts, licence),
    }
    lines = [metadata(facts, [each.format for each in exports], repository, licence, translations), ""]
    lines += [f"# {repository.partition('/')[2]}", "", _summary(facts, translations), ""]
    for title, content in sections.items():
        lines += [f"## {title}", "", *content, ""]
    return "\n".join(lines)


def _of(facts: RunFacts, split: str) -> list[SourceFacts]:
    return [each for each in facts.sources if each.split == split]


def _summary(facts: RunFacts, translations: Translated | None) -> str:
    named = ", ".join(f"{LANGUAGE_NAMES.get(each, each)} (`{each}`)" for each in facts.languages)
    purpose = f" for {named}" if named else ""
    purpose += MORE_LANGUAGES if named and facts.more_languages else ""
    purpose += ", to translate it" if facts.task == "translate" else ""
    return (
        f"{facts.base_model.name}, fine-tuned{purpose}: {_before_and_after(facts, translations)}, "
        f"on {facts.tuned.scores.rows:,} rows of the {facts.tuned.split} set."
    )


def _before_and_after(facts: RunFacts, translations: Translated | None) -> str:
    if translations:
        return f"BLEU {translations.base.bleu:.1f} before, {translations.tuned.bleu:.1f} after"
    name = "CER" if facts.by_characters else "WER"
    before, after = (each.scores.cer if facts.by_characters else each.scores.wer for each in (facts.base, facts.tuned))
    return f"raw {name} {before:.1f} % before, {after:.1f} % after"


def _data(facts: RunFacts) -> list[str]:
    lines = ["| set | source | language | rows | hours | licence |", "| --- | --- | --- | ---: | ---: | --- |"]
    for each in facts.sources:
        name = f"[{each.label}](https://huggingface.co/datasets/{each.dataset})" if each.dataset else each.label
        rows = "" if each.rows is None else f"{each.rows:,}"
        hours = "" if each.hours is None else f"{each.hours:.2f}"
        lines.append(
            f"| {each.split} | {name} | {each.language or ''} | {rows} | {hours} | {each.licence or NOT_STATED} |"
        )
    lines += ["", *_heard(facts)]
    if facts.dropped:
        told = ", ".join(f"{count:,} {reason}" for reason, count in facts.dropped.items())
        lines.append(f"- Rows that were left out: {told}.")
    return lines


def _heard(facts: RunFacts) -> list[str]:
    """How much speech it was; train's length follows from what was heard in how many passes."""
    tuned, hours = facts.tuned, facts.result.get("speech_hours")
    lines = [
        f"- Figures are of {tuned.scores.rows:,} rows, {tuned.audio_seconds / 3600:.2f} h, of the {tuned.split} set."
    ]
    if hours and facts.epochs:
        lines.append(
            f"- Trained on {hours:.2f} h of speech: {facts.epochs:.3g} passes over about {hours / facts.epochs:.2f} h."
        )
    elif hours:
        lines.append(f"- Trained on {hours:.2f} h of speech, as it came.")
    return lines


def _made(facts: RunFacts) -> list[str]:
    result = facts.result
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    return [
        f"- Method: {_method(facts)}",
        f"- Steps: {result.get('steps', 0):,}, {result.get('skipped_steps', 0)} of them skipped; kept: {_kept(facts)}",
        f"- Hardware: {facts.machine or NOT_WRITTEN}; processes: {result.get('processes', 1)}",
        f"- Time: {_hours(result.get('seconds_all_sessions') or result.get('seconds') or 0)} in all, "
        f"{_hours(result.get('seconds_training') or 0)} of it training",
        *_footprint(result),
        f"- Software: {versions or NOT_WRITTEN}",
        "",
        "The recipe, without what is a default; all of it: `recipe.toml`.",
        "",
        "```toml",
        facts.chosen_toml.strip(),
        "```",
    ]


def _method(facts: RunFacts) -> str:
    train, trained, every = facts.recipe.train, facts.result.get("parameters_trained"), facts.result.get("parameters")
    method = "all weights"
    if train.method == "lora":
        kind = "DoRA" if train.lora.dora else "LoRA"
        method = f"{kind} of rank {train.lora.rank} on {', '.join(train.lora.targets)}, merged"
    if train.freeze:
        method += f", {', '.join(train.freeze)} frozen"
    share = f" ({trained / 1e6:.1f} M of {every / 1e6:.1f} M parameters)" if trained and every else ""
    return f"{method}{share}"


def _kept(facts: RunFacts) -> str:
    step = facts.result.get("best_step")
    whose = "the average of several weights" if facts.weights == "average" else "the weights"
    return f"{whose}, after step {step:,}" if step else whose


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def _footprint(result: Any) -> list[str]:
    energy, carbon = result.get("energy_kwh"), result.get("co2_kg")
    if energy is None:
        return ["- Energy and CO2: not measured"]
    told = f"- Energy: {energy:.3g} kWh ({result.get('energy_method')})"
    return [told + ("" if carbon is None else f"; CO2: {carbon:.2g} kg, estimated from the country's power mix")]


def _use(
    facts: RunFacts, exports: Sequence[Exported], repository: str, multilingual: bool, rows: Sequence[Segment]
) -> list[str]:
    spoken = Spoken(facts.language, facts.task, multilingual, facts.suppress_blank)
    arguments = f"With the arguments of the verification{_otherwise(spoken, facts, rows)}"
    base = hub_name(facts.recipe.model)
    lines: list[str] = []
    for each in exports:
        program = usage(each, repository, spoken, base=base)
        if program is None and each.format != ADAPTER_FORMAT:
            continue
        title = f"{TITLES[each.format]}{f', {each.quantization}' if each.folder else ''}"
        if program is None:
            lines += _no_program(title, facts)
            continue
        checked = arguments if each.verified else "**Not verified**: nobody ran it yet"
        lines += [f"### {title}", "", f"{checked}; `pip install {NEEDS[each.format]}`", "", "```python"]
        lines += [program.strip(), "```", ""]
        if told := remark(each, spoken):
            lines += [told, ""]
    return lines


def _otherwise(spoken: Spoken, facts: RunFacts, rows: Sequence[Segment]) -> str:
    """What the programs are told otherwise than the verification, which knows language and task of each clip."""
    reported = facts.reported(rows)
    languages, tasks = ({each[place] for each in reported} for place in (0, 1))
    pairs = (("the language", languages, spoken.language), ("the task", tasks, spoken.task))
    differ = [name for name, there, here in pairs if spoken.multilingual and (here is None or there != {here})]
    return f", but for {' and '.join(differ)}, which it was told of each clip" if differ else ""


def _no_program(title: str, facts: RunFacts) -> list[str]:
    return [
        f"### {title}",
        "",
        f"No program: the model that this adapter belongs to, {facts.base_model.name}, is not on the hub. Whoever has "
        "it loads it with transformers, and the adapter with `PeftModel.from_pretrained`.",
        "",
    ]


def _licences(facts: RunFacts, licence: str | None) -> list[str]:
    base = facts.base_model
    origin = base.told(lambda hub: f"[{hub}](https://huggingface.co/{hub})")
    lines = [
        f"- This model: {licence or NOT_STATED}",
        f"- Its base: {origin}; licence: {base.licence or f'{NOT_STATED} here'}",
    ]
    lines += [
        f"- Data, {label}: {owned or NOT_STATED}"
        for label, owned in dict.fromkeys((each.label, each.licence) for each in facts.sources if each.split == "train")
    ]
    return [*lines, "- Made with Whispertune"]
