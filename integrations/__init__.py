"""AdaCLIP inside other people's text-to-motion codebases; installed as `adaclip_integrations`.

    mdm, momask, salad    where each codebase keeps its text encoder, and how AdaCLIP takes its place
    patching              small marked edits of source files: check, apply, revert
    selection             which weights a patched codebase runs with

Written from what the codebases do; none of their code is here.
"""
