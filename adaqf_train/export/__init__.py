"""Motions into the files that other programs read: BVH, glTF, video, pictures, pages, arrays."""

from adaqf_train.export.bvh import write_bvh
from adaqf_train.export.gltf import write_glb
from adaqf_train.export.save import ExportError, save_motion, save_motions

__all__ = ["ExportError", "save_motion", "save_motions", "write_bvh", "write_glb"]
