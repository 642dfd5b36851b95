"""What mvm does with root's rights: give them up, and keep a broker for a short list of typed requests."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "control_groups": "ControlGroups Controller Group GroupLimits",
        "descriptors": "received",
        "entry": "NamespaceEntry",
        "give_up": "give_up_root",
        "tree": "ServedDirectory",
        "withheld": "withheld_words",
    },
    modules=["client", "control_groups", "ids", "user_namespaces"],
)
