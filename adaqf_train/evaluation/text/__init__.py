"""A benchmark of text encoders without motion: minimal pairs and paraphrases of descriptions."""
