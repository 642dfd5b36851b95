"""Which rights mvm has: it leaves root's before anything else, and makes namespaces and control groups as a user."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "control_groups": "ControlGroups Controller Group GroupLimits",
        "descriptors": "received",
        "entry": "NamespaceEntry",
    },
    modules=["control_groups", "held_files", "session_keyring", "system_user", "user_namespaces"],
)
