from mvmnix.privileges import control_groups, held_files, session_keyring, system_user, user_namespaces
from mvmnix.privileges.control_groups import ControlGroups, Controller, Group, GroupLimits
from mvmnix.privileges.descriptors import received
from mvmnix.privileges.entry import NamespaceEntry

__all__ = [
    "ControlGroups",
    "Controller",
    "Group",
    "GroupLimits",
    "NamespaceEntry",
    "control_groups",
    "held_files",
    "received",
    "session_keyring",
    "system_user",
    "user_namespaces",
]
