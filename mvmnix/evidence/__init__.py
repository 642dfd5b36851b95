"""What is known of an image, plan or machine, as one graph from source to machine; and the graph as JSON and HTML."""
