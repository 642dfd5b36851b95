from mvmnix.launch.network.decisions import Denial, Rules
from mvmnix.launch.network.dry_run import Attempt, judge
from mvmnix.launch.network.explain import EXPLANATIONS, sentence
from mvmnix.launch.network.presets import PresetChoice, parse_preset
from mvmnix.launch.network.public_suffixes import refuse_public_suffixes
from mvmnix.launch.network.risk_checks import ACKNOWLEDGEMENT_MEANINGS, refuse_unacknowledged

__all__ = [
    "ACKNOWLEDGEMENT_MEANINGS",
    "EXPLANATIONS",
    "Attempt",
    "Denial",
    "PresetChoice",
    "Rules",
    "judge",
    "parse_preset",
    "refuse_public_suffixes",
    "refuse_unacknowledged",
    "sentence",
]
