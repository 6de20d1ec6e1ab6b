"""A hundred prompts on anything but motion: what an encoder understood before it was adapted to motions.

They are written for this purpose in the style of image captions, on which CLIP was trained. There are ten of each kind,
so that their similarities have structure: prompts of a kind are closer to each other than to the rest.
"""

from __future__ import annotations

_KINDS = {
    "animals": "a tabby cat; a golden retriever; a brown horse; a grey elephant; a green parrot; a school of fish; "
    "a honey bee; a sleeping fox; two white sheep; a tortoise with a mossy shell",
    "food": "a bowl of tomato soup; a slice of lemon cake; a ripe banana; a loaf of rye bread; a cup of black coffee; "
    "a plate of spaghetti; fresh strawberries; a jar of honey; grilled salmon with herbs; a wheel of hard cheese",
    "rooms": "a bright kitchen; a library with tall shelves; an empty classroom; a tiled bathroom; a dusty attic; "
    "a hotel lobby; a child's bedroom; a workshop full of tools; a narrow corridor; a concert hall",
    "landscapes": "a snowy mountain; a calm lake at dawn; a desert with red dunes; a forest in fog; a rocky coast; "
    "a field of lavender; a waterfall in a gorge; a frozen river; a volcanic island; rolling green hills",
    "colours": "a red square; a blue square; a yellow circle; a green circle; a purple triangle; a black line; "
    "orange and pink stripes; a silver surface; a pattern of brown dots; a pale grey wall",
    "vehicles": "a vintage car; a yellow taxi; a cargo ship; a steam locomotive; a mountain bike; a hot air balloon; "
    "a fire engine; a passenger plane; a wooden rowing boat; a rusty tractor",
    "buildings": "a gothic cathedral; a glass skyscraper; a thatched cottage; a stone bridge; a lighthouse; "
    "a railway station; a windmill; a ruined castle; a wooden barn; a row of brick houses",
    "objects": "a pair of scissors; an old typewriter; a ceramic vase; a leather suitcase; a wall clock; an umbrella; "
    "a silver spoon; a folded newspaper; a desk lamp; a bunch of keys",
    "weather": "a clear blue sky; dark storm clouds; a rainbow after rain; a full moon; heavy snow on the roofs; "
    "a misty morning; the stars on a summer night; hail on a car window; a red sunset; a hazy afternoon",
    "pictures": "a black and white photograph; an oil painting of fruit; a pencil sketch; a watercolour of flowers; "
    "a map of a city; a handwritten letter; a comic strip; a close-up of a leaf; an X-ray image; a child's drawing",
}

PROMPTS = tuple(prompt for kind in _KINDS.values() for prompt in kind.split("; "))
