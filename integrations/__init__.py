"""AdaCLIP inside other text-to-motion codebases; installed as `adaclip_integrations`.

    launch                the command `adaclip-run`: runs a script as it is, with AdaCLIP in the place of CLIP
    replacement           the stand-ins for `import clip` and transformers' CLIP that it installs
    compat                stand-ins for what old code expects of current packages
    mdm, momask, salad    where each codebase keeps its text encoder, and how AdaCLIP takes its place
    patching, selection   small marked edits of source files, and the encoder that an edited codebase runs with
    frozen, fingerprint   the encoder that training loops get, and its record in their checkpoints

The modules are written from the codebases' behaviour and contain none of their code.
"""

from adaclip.config import AdaCLIPError


class IntegrationError(AdaCLIPError):
    """AdaCLIP cannot take the place of a program's text encoder. The message says where, why, and what to do."""


class SeamError(IntegrationError):
    """A checkout or script differs from what an edit or a seam expects. The message names the place."""


class OtherEncoderError(IntegrationError):
    """A checkpoint was trained with another text encoder than the one that runs."""
