from mvmnix.builder import bootstrap
from mvmnix.builder.template import Template, template_tree, write_template

__all__ = ["Template", "bootstrap", "template_tree", "write_template"]
