"""Motion files for other programs: BVH, glTF, SMPL's parameters, video, pictures, pages, arrays."""

from adaqf_train.errors import ExportError
from adaqf_train.files.bvh import write_bvh
from adaqf_train.files.gltf import write_glb
from adaqf_train.files.save import save_motion, save_motions

__all__ = ["ExportError", "save_motion", "save_motions", "write_bvh", "write_glb"]
