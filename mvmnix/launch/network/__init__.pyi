from mvmnix.launch.network.decisions import Denial, Rules
from mvmnix.launch.network.dry_run import Attempt, judge
from mvmnix.launch.network.explain import EXPLANATIONS, sentence
from mvmnix.launch.network.messages import GATEWAY_ENDED, NetworkEvent
from mvmnix.launch.network.namespace import NFT, make_namespace
from mvmnix.launch.network.network_log import LoggedEvent, NetworkLog, has_network_log, read_log
from mvmnix.launch.network.presets import PRESET_LIMIT, PresetChoice, parse_preset
from mvmnix.launch.network.public_suffixes import refuse_public_suffixes
from mvmnix.launch.network.risk_checks import ACKNOWLEDGEMENT_MEANINGS, refuse_unacknowledged
from mvmnix.launch.network.setup import GUEST_NETWORK, MachineNetwork
from mvmnix.launch.network.verdicts import Verdicts

__all__ = [
    "ACKNOWLEDGEMENT_MEANINGS",
    "EXPLANATIONS",
    "GATEWAY_ENDED",
    "GUEST_NETWORK",
    "NFT",
    "PRESET_LIMIT",
    "Attempt",
    "Denial",
    "LoggedEvent",
    "MachineNetwork",
    "NetworkEvent",
    "NetworkLog",
    "PresetChoice",
    "Rules",
    "Verdicts",
    "has_network_log",
    "judge",
    "make_namespace",
    "parse_preset",
    "read_log",
    "refuse_public_suffixes",
    "refuse_unacknowledged",
    "sentence",
]
