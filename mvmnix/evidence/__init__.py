"""What is known of an image, plan or machine, as one graph from source to machine; and the graph as JSON and HTML."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "graph": "Graph Node NodeStatus",
        "page": "Page render_page",
        "record": "graph_record",
        "subjects": "find_subject graph_of",
    },
)
