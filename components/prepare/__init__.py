"""Makes records of images: checked, split, deduplicated, written as TFRecord shards."""
