"""A guest's network: what a plan's rules allow of it, and what holds a guest to them."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "messages": "GATEWAY_ENDED NetworkEvent",
        "namespace": "make_namespace NFT",
        "network_log": "has_network_log LoggedEvent NetworkLog read_log",
        "setup": "GUEST_NETWORK MachineNetwork",
        "verdicts": "Verdicts",
        "decisions": "Denial Rules",
        "dry_run": "Attempt judge",
        "explain": "EXPLANATIONS sentence",
        "presets": "parse_preset PRESET_LIMIT PresetChoice",
        "public_suffixes": "refuse_public_suffixes",
        "risk_checks": "ACKNOWLEDGEMENT_MEANINGS refuse_unacknowledged",
    },
)
