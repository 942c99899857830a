"""The head of a card: what the model hub reads, finds models by, and puts on leaderboards.

text = metadata(facts, ["transformers", "ct2"], "me/whisper-small-sv", licence="apache-2.0")      # YAML
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from whispertune.evaluation.evaluate import Evaluation
from whispertune.model.naming import hub_name
from whispertune.publish.exported import ROOT_FORMAT
from whispertune.publish.facts import RunFacts
from whispertune.publish.translated import Translated
from whispertune.publish.usage import ADAPTER_FORMAT

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TASK: Final = "automatic-speech-recognition"  # of translations too: the hub has no other for speech to text
HUB_LANGUAGES: Final = {"jw": "jv"}  # where Whisper's code is not the standard's
SPLIT_NAMES: Final = {"dev": "validation", "test": "test"}
TAGS: Final = ("whisper", "whispertune")
LEADERBOARD_TAG: Final = "hf-asr-leaderboard"  # which reads the WER
TRANSLATION_TAG: Final = "speech-translation"
FORMAT_TAGS: Final = {"ct2": ("ctranslate2", "faster-whisper"), "ggml": ("whisper.cpp", "ggml"), "onnx": ("onnx",)}
LIBRARIES: Final = {"transformers": "transformers", "adapter": "peft", "ct2": "ctranslate2", "onnx": "onnx"}


@dataclass(frozen=True, slots=True)
class _Figure:
    metric: str  # the hub's type
    name: str
    value: float
    interval: tuple[float, float]
    unit: str = "per cent"
    normalizer: str | None = None
    signature: str | None = None


def metadata(
    facts: RunFacts,
    formats: Sequence[str],
    repository: str,
    licence: str | None,
    translations: Translated | None,
) -> str:
    """YAML, with the lines around it; `translations` where all rows that report are translated."""
    from huggingface_hub import ModelCardData

    first = ROOT_FORMAT if ROOT_FORMAT in formats else formats[0]
    adapts = set(formats) == {ADAPTER_FORMAT}  # and then belongs to the very model that the recipe names
    own = hub_name(facts.recipe.model)
    bases = ((own,) if own else ()) if adapts else facts.base_model.hubs
    relation = "adapter" if adapts else "finetune"
    kind = TRANSLATION_TAG if translations else LEADERBOARD_TAG
    figures = _figures(facts.tuned, translations)
    data = ModelCardData(
        language=[HUB_LANGUAGES.get(each, each) for each in facts.languages] or None,
        license=licence,
        library_name=LIBRARIES.get(first),
        pipeline_tag=TASK,
        base_model=bases[0] if len(bases) == 1 else list(bases) or None,
        base_model_relation=relation if bases else None,
        tags=[*TAGS, kind, *(tag for each in formats for tag in FORMAT_TAGS.get(each, ()))],
        datasets=list(dict.fromkeys(each.dataset for each in facts.sources if each.dataset)) or None,
        metrics=list(dict.fromkeys(each.metric for each in figures)),
        co2_eq_emissions=_emissions(facts),
        model_name=repository.partition("/")[2],
        eval_results=[
            _result(facts, each, "Speech translation" if translations else "Speech recognition") for each in figures
        ],
    )
    return f"---\n{str(data.to_yaml()).strip()}\n---"


def _emissions(facts: RunFacts) -> dict[str, Any] | None:
    """As the hub's pages read it: in grams."""
    kilograms = facts.result.get("co2_kg")
    if kilograms is None:
        return None
    told = {
        "emissions": round(1000 * kilograms, 3),
        "source": "codecarbon",
        "training_type": "fine-tuning",
        "geographical_location": facts.recipe.tracking.country,
        "hardware_used": facts.machine,
    }
    return {name: value for name, value in told.items() if value is not None}


def _figures(found: Evaluation, translations: Translated | None) -> list[_Figure]:
    """The tuned model's on the split that reports: of translations first, then rates, raw and normalised."""
    scores = found.scores
    doubt = ", on rows that chose the checkpoint" if found.biased_by_selection else ""
    named = scores.normalizer
    by = f"normalised by {named}{doubt}"
    rates = [
        _Figure("wer", f"WER, raw{doubt}", scores.wer, scores.wer_interval),
        _Figure("wer", f"WER, {by}", scores.wer_normalized, scores.wer_normalized_interval, normalizer=named),
        _Figure("cer", f"CER, raw{doubt}", scores.cer, scores.cer_interval),
        _Figure("cer", f"CER, {by}", scores.cer_normalized, scores.cer_normalized_interval, normalizer=named),
    ]
    if translations is None:
        return rates
    ours = translations.tuned
    return [
        _Figure("bleu", f"BLEU{doubt}", ours.bleu, ours.bleu_interval, "points", signature=ours.bleu_signature),
        _Figure("chrf", f"chrF{doubt}", ours.chrf, ours.chrf_interval, "points", signature=ours.chrf_signature),
        *rates,
    ]


def _result(facts: RunFacts, figure: _Figure, task: str) -> EvalResult:
    from huggingface_hub import EvalResult

    found = facts.tuned
    sources = [each for each in facts.sources if each.split == found.split]
    label = " + ".join(each.label for each in sources) or found.split
    only = sources[0] if len(sources) == 1 else None
    interval = [round(each, 2) for each in figure.interval]
    asked = {"interval_95": interval, "unit": figure.unit, "rows": found.scores.rows}
    by = {"normalizer": figure.normalizer, "signature": figure.signature}
    return EvalResult(
        task_type=TASK,
        task_name=task,
        dataset_type=(only.dataset if only else None) or re.sub(r"[^\w.-]+", "-", label).strip("-").lower(),
        dataset_name=label,
        dataset_config=only.config if only else None,
        dataset_split=SPLIT_NAMES.get(found.split, found.split),
        metric_type=figure.metric,
        metric_name=figure.name,
        metric_value=round(figure.value, 2),
        metric_args=asked | {name: value for name, value in by.items() if value},
    )
