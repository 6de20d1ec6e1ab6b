"""A page in the browser that generates motions from prompts."""
