"""Looking at motions: stick figures, and a page that plays them side by side."""
