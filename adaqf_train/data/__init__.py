"""Captioned motions: read from HumanML3D-layout folders, batched, and written in that layout."""
