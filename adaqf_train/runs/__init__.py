"""A run: its folder, its stages, scoring and publishing."""
