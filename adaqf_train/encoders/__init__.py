"""Text encoders as training uses them: what of them learns, captions under frozen ones, the pocket CLIP, rivals."""
