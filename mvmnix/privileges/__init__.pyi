from mvmnix.privileges import client, control_groups, ids
from mvmnix.privileges.control_groups import ControlGroups, Controller, Group, GroupLimits
from mvmnix.privileges.descriptors import received
from mvmnix.privileges.entry import Entry
from mvmnix.privileges.give_up import give_up_root
from mvmnix.privileges.tree import Served
from mvmnix.privileges.withheld import withheld_words

__all__ = [
    "ControlGroups",
    "Controller",
    "Entry",
    "Group",
    "GroupLimits",
    "Served",
    "client",
    "control_groups",
    "give_up_root",
    "ids",
    "received",
    "withheld_words",
]
