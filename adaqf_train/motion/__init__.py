"""Skeletons, rotations, kinematics, BVH files, and the motion representation both ways."""
