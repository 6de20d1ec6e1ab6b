"""AdaCLIP inside other people's text-to-motion codebases; installed as `adaclip_integrations`."""
