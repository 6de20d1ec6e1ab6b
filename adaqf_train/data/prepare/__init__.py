"""Convert motions to HumanML3D's layout, with one module for each kind of source."""
