"""The words of the captions: clauses for every action, and how actions are joined.

A clause is a template such as "<wave> {hand} {times}{how}". <verb> is inflected ("waves", or "waving" after "before").
The word of speed goes to {how} or {front}; a template has at most one of them. Normal speed has no word.
"""

SUBJECTS = ("a person", "a person", "a person", "the person", "someone", "a figure")
LOOSE_SHARE = 0.45  # share of clips with four captions in which one caption leaves an attribute out
LATE = {
    "slow": ("slowly", "at a slow pace", "in slow motion"),
    "fast": ("quickly", "fast", "rapidly", "at a fast pace"),
}
EARLY = {"slow": ("slowly",), "fast": ("quickly", "rapidly")}
ADJECTIVE = {"slow": "slow ", "normal": "", "fast": "quick "}
TIMES = {1: ("once", "one time"), 2: ("twice", "two times"), 3: ("three times",)}
NUMBER = {1: ("one", "a single"), 2: ("two",), 3: ("three",)}
HEIGHT = {
    ("shoulder", "forward"): ("straight out in front at shoulder height", "forward to shoulder height"),
    ("shoulder", "side"): ("out to the side at shoulder height", "sideways to shoulder height"),
    ("overhead", "forward"): ("forward and up above the head", "in front and up over the head"),
    ("overhead", "side"): ("out to the side and up above the head", "sideways and up over the head"),
}
LEVEL = {"shoulder": "shoulder height", "overhead": "above the head"}
IRREGULAR = {"run": "running", "step": "stepping", "sit": "sitting", "get": "getting", "squat": "squatting"}
IRREGULAR |= {"hop": "hopping", "let": "letting"}

# The clauses of each action. Those marked ~ leave an attribute out; all others name every attribute.
_CLAUSES = """
walk:
<walk> {toward}{how}
{front}<walk> {toward}
<take> {quick}steps {toward}
<move> {toward} on foot{how}
<go> {toward} at a {quick}walk
~ <walk> {toward}

walk_curve:
<walk> forward{how} in a curve to the {side}
{front}<walk> ahead along a path that bends to the {side}
<curve> to the {side} in a {quick}forward walk
<walk>{how} in an arc toward the {side}
~ <walk> forward in a curve to the {side}
~ <walk> in a curve{how}

walk_corner:
<walk> forward{how} with a {angle} degree turn to the {side} on the way
{front}<walk> ahead while turning {angle} degrees to the {side}
<make> a {angle} degree {side} turn during a {quick}walk
<walk>{how}, <turn> {side} by {angle} degrees and <walk> on
~ <walk> forward while turning to the {side}

run:
<run> {toward}{how}
{front}<run> {toward}
<go> {toward} at a {quick}run
<move> {toward} at a {quick}run
~ <run>{how}

run_curve:
<run> forward{how} in a curve to the {side}
{front}<run> ahead along a path that bends to the {side}
<curve> to the {side} in a {quick}run
<run>{how} in an arc toward the {side}
~ <run> in a curve to the {side}

sidestep:
<step> sideways to the {side}{how}
{front}<sidestep> to the {side}
<take> {quick}side steps to the {side}
<move> sideways to the {side} in {quick}steps
~ <sidestep> to the {side}

turn:
<turn> {angle} degrees to the {side}{how}
{front}<turn> {side} by {angle} degrees on the spot
<make> a {quick}{angle} degree turn to the {side} in place
<rotate>{how} on the spot {angle} degrees toward the {side}
~ <turn> to the {side}{how}

raise_arm:
<raise> {arm} {height} {times}{how}
{front}<lift> {arm} {height} {times}
{front}<raise> and <lower> {arm} {times}, moving {height}
<bring> {arm} {height} and back down {times}{how}
~ {front}<raise> and <lower> {arm} {times}
~ <raise> {arm} {height}{how}

lift_arm:
<raise> {arm} {height}{how} and <keep> {it} there
{front}<lift> {arm} {height} and <hold> {it} up
{front}<bring> {arm} {height} and <stay> like that
~ <raise> {arm}{how} and <hold> {it} up

lower_arm:
<start> with {arm} held {placed} and {front}<lower> {it}
<lower> {arm} from {level}{how}
{front}<let> {arm} down from {level}
<bring> {arm} down{how} after holding {it} {placed}
~ {front}<lower> {arm}

wave:
<wave> {hand} {times}{how}
{front}<wave> {times} with {hand}
<lift> {hand} and <wave> {times}{how}
{front}<swing> {hand} from side to side {times} in a wave
<give> {number} {quick}{waves} with {hand}
~ <wave> with {hand}{how}
~ {front}<wave> {times}

punch:
<punch> forward with {hand} {times}{how}
{front}<punch> {times} with {hand}
<throw> {number} {quick}{punches} with {hand}
<strike> forward {times}{how} using {fist}
~ <punch> with {hand}{how}
~ {front}<punch> {times}

bow:
<bow> {deeply} {times}{how}
{front}<bow> {deeply} {times}
<make> {number} {quick}{deep} {bows}
{front}<bend> {deeply} forward at the waist {times}
~ {front}<bow> {times}
~ <bow> {deeply}{how}

crouch:
<crouch> down {lowly} {times}{how}
{front}<bend> the knees {lowly} {times}
{front}<squat> {lowly} {times}
<do> {number} {quick}{low} {squats}
~ {front}<crouch> down {times}

jump:
<jump> {airward} {times}
<hop> {airward} with both feet {times}
<make> {number} {high} {jumps} {airway}
<leap> {times} {airway}, {landing}
~ <jump> {way} {times}
~ <jump> {times}

kick:
<kick> {highly} with {leg} {times}{how}
{front}<kick> {leg} {highly} forward {times}
<do> {number} {quick}{high} {kicks} with {leg}
<swing> {leg} {highly} in a {quick}forward kick {times}
~ <kick> forward with {leg} {times}
~ {front}<kick> with {leg}

sit:
<sit> down{how}
{front}<sit> down and <stay> seated
<take> a seat{how}
{front}<lower> the body onto a seat

stand_up:
<stand> up{how} from a chair
{front}<get> up from a seat
<rise>{how} from sitting
{front}<rise> to stand from a seated position

sit_stand:
<sit> down{how} and <stand> up again
{front}<take> a seat and <get> back up
{front}<sit> down, then <rise> again
<go> from standing to sitting and back{how}

one_leg:
{front}<lift> {leg} and <balance> on {other}
<raise> {leg}{how} to stand on {other}
<balance> on {other} with {leg} {front}lifted
<stand> on {other} after {front}raising {leg}
~ <stand> on {other}

idle:
<stand> still
<stay> in place without moving
<stand> upright with both arms at the sides
<stand> and <wait>
"""


def _parsed(text: str) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    table = {}
    for paragraph in text.strip().split("\n\n"):
        action, *lines = paragraph.splitlines()
        loose = tuple(line.removeprefix("~ ") for line in lines if line.startswith("~ "))
        table[action.removesuffix(":")] = (tuple(line for line in lines if not line.startswith("~ ")), loose)
    return table


CLAUSES = _parsed(_CLAUSES)
"""By action: the clauses that name every attribute, and those that leave one out."""

JOINS = (
    "{subject} {0} and then {1}",
    "{subject} {0}, then {1}",
    "{subject} first {0} and afterwards {1}",
    "{subject} {0} before {ing1}",
    "{subject} {1} after {ing0}",
    "after {ing0}, {subject} {1}",
)
JOINS_OF_THREE = (
    "{subject} {0}, then {1}, and finally {2}",
    "{subject} {0} and then {1} and then {2}",
    "{subject} first {0}, next {1} and at last {2}",
    "after {ing0}, {subject} {1} and then {2}",
)
