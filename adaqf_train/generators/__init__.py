"""Text-to-motion generators: a package for each family, and around them what the families share.

Every family has the same layout: `config` (its settings), `networks`, `generator` (sampling), `objective` (training)
and `family`, whose `FAMILY` is listed in `registry`. `base.MotionGenerator` is the public face of all of them.
"""
