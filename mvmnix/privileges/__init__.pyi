from mvmnix.privileges import client, control_groups, ids, user_namespaces
from mvmnix.privileges.control_groups import ControlGroups, Controller, Group, GroupLimits
from mvmnix.privileges.descriptors import received
from mvmnix.privileges.entry import NamespaceEntry
from mvmnix.privileges.give_up import give_up_root
from mvmnix.privileges.tree import ServedDirectory
from mvmnix.privileges.withheld import withheld_words

__all__ = [
    "ControlGroups",
    "Controller",
    "Group",
    "GroupLimits",
    "NamespaceEntry",
    "ServedDirectory",
    "client",
    "control_groups",
    "give_up_root",
    "ids",
    "received",
    "user_namespaces",
    "withheld_words",
]
