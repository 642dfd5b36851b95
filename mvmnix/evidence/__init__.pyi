from mvmnix.evidence.graph import Graph, Node, NodeStatus
from mvmnix.evidence.page import Page, render_page
from mvmnix.evidence.record import graph_record
from mvmnix.evidence.subjects import find_subject, graph_of

__all__ = ["Graph", "Node", "NodeStatus", "Page", "find_subject", "graph_of", "graph_record", "render_page"]
