"""What runs show to people. Not available yet."""

from callsheet._later import later

__getattr__ = later(
    __name__,
    "create_table_artifact",
    "create_markdown_artifact",
    "create_link_artifact",
    "create_image_artifact",
    "create_progress_artifact",
    "update_progress_artifact",
    "update_image_artifact",
)
