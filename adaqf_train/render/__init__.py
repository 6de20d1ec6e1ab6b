"""Looking at motions: pictures and films of bodies on a floor, and a page that plays them side by side."""
