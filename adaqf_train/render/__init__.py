"""Show motions: pictures and films of bodies on a floor, and a page that plays motions side by side."""
