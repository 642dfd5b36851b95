from mvmnix.builder.reproduce import file_differences
from mvmnix.builder.reproduce.compare import Agreement, Difference, Disagreement, compare_images

__all__ = ["Agreement", "Difference", "Disagreement", "compare_images", "file_differences"]
