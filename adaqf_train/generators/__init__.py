"""Text-to-motion generators: one folder for each family, and what the families share."""
