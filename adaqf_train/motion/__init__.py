"""Skeletons, the motion representation both ways, and a procedural source of motions."""
