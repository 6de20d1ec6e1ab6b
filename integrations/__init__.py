"""AdaCLIP inside other text-to-motion codebases; installed as `adaclip_integrations`.

    launch, workers       the command `adaclip-run`: runs a script as it is, with AdaCLIP in the place of CLIP
    replacement           the stand-in for transformers' CLIP that it installs
    clip_package          the stand-in for `import clip`
    towers                CLIPs that a program builds by itself, which stop it
    places, names         which places of a program get AdaCLIP, and which CLIP an adapter stands for
    compat, plotting      stand-ins for what old code expects of current packages
    cpu                   code that was written for CUDA on the CPU
    mdm, momask, salad    where these keep their text encoder, and how AdaCLIP takes its place
    codebases             the other codebases, an entry each
    patching, edits       small marked edits of source files
    residues              what a formatter or a hand left of them, and other files that load CLIP
    selection             the encoder that an edited codebase runs with
    openai_seam           the stand-in for `import clip` in edited files
    frozen                the encoder that training loops get
    fingerprint           its record, and the comparison with a checkpoint's
    checkpoints           the record in what a process saves and loads

The modules are written from the codebases' behaviour and contain none of their code.
"""

from adaclip.config import AdaCLIPError


class IntegrationError(AdaCLIPError):
    """AdaCLIP cannot take the place of a program's text encoder. The message says where, why, and what to do."""


class SeamError(IntegrationError):
    """A checkout or script differs from what an edit or a seam expects. The message names the place."""


class OtherEncoderError(IntegrationError):
    """A checkpoint was trained with another text encoder than the one that runs."""
