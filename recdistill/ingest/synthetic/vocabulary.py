"""Words of the planted world. Topics come four to a genre; topic ``t`` is of genre ``t // 4``.

Topic, genre and style words hint at taste. Register and filler words are nuisance: frequent, and of no
consequence for what anybody likes.
"""

from __future__ import annotations

TOPICS_PER_GENRE = 4

GENRES: dict[str, tuple[str, ...]] = {
    "food": ("kitchen", "flavour", "recipe", "taste", "dish", "chef", "supper", "spice"),
    "sport": ("match", "training", "coach", "league", "stamina", "medal", "season", "athlete"),
    "music": ("song", "melody", "stage", "album", "rhythm", "concert", "singer", "tune"),
    "tech": ("device", "engineer", "circuit", "software", "upgrade", "battery", "prototype", "sensor"),
    "craft": ("workshop", "handmade", "pattern", "tool", "hobby", "studio", "texture", "project"),
    "travel": ("journey", "luggage", "hostel", "route", "map", "passport", "ticket", "guide"),
}

TOPICS: dict[str, tuple[str, ...]] = {
    "baking": ("sourdough", "oven", "pastry", "flour", "croissant", "yeast", "muffin", "dough"),
    "grilling": ("barbecue", "charcoal", "ribs", "smoker", "steak", "marinade", "skewer", "ember"),
    "noodles": ("ramen", "broth", "wok", "udon", "dumpling", "soy", "chopsticks", "sesame"),
    "coffee": ("espresso", "barista", "latte", "roast", "grinder", "crema", "beans", "brew"),
    "football": ("striker", "penalty", "goalkeeper", "midfield", "offside", "corner", "dribble", "pitch"),
    "climbing": ("boulder", "harness", "belay", "crag", "chalk", "summit", "carabiner", "ledge"),
    "cycling": ("saddle", "peloton", "gears", "sprint", "pedal", "velodrome", "handlebar", "chain"),
    "swimming": ("freestyle", "pool", "lane", "dive", "goggles", "backstroke", "relay", "lap"),
    "jazz": ("saxophone", "swing", "trumpet", "improvisation", "bebop", "quartet", "blues", "trombone"),
    "opera": ("soprano", "aria", "tenor", "libretto", "orchestra", "overture", "baritone", "chorus"),
    "hiphop": ("rapper", "beats", "turntable", "freestyling", "sampler", "mixtape", "breakdance", "rhyme"),
    "folk": ("banjo", "ballad", "fiddle", "accordion", "campfire", "mandolin", "shanty", "harmonica"),
    "robots": ("android", "servo", "gripper", "automation", "actuator", "drone", "humanoid", "gearbox"),
    "phones": ("smartphone", "touchscreen", "charger", "selfie", "notification", "handset", "sim", "ringtone"),
    "coding": ("compiler", "python", "debugger", "function", "repository", "algorithm", "syntax", "terminal"),
    "space": ("rocket", "orbit", "satellite", "telescope", "astronaut", "comet", "lunar", "galaxy"),
    "gardening": ("tomato", "compost", "seedling", "greenhouse", "pruning", "soil", "tulip", "watering"),
    "carpentry": ("oak", "chisel", "dovetail", "plywood", "lathe", "sawdust", "hinge", "varnish"),
    "knitting": ("yarn", "needles", "scarf", "stitch", "wool", "crochet", "cardigan", "purl"),
    "painting": ("watercolour", "canvas", "brush", "easel", "pigment", "portrait", "acrylic", "palette"),
    "islands": ("beach", "lagoon", "snorkel", "ferry", "palm", "reef", "hammock", "coconut"),
    "mountains": ("glacier", "alpine", "hut", "ridge", "trail", "avalanche", "peak", "valley"),
    "cities": ("metro", "skyline", "museum", "rooftop", "tram", "plaza", "boulevard", "market"),
    "deserts": ("dune", "camel", "oasis", "caravan", "mirage", "canyon", "nomad", "sandstorm"),
}

# Opposite poles of the two style axes that text shows: (negative, positive).
STYLE_A = (
    ("calm", "gentle", "quiet", "slow", "soothing", "peaceful", "mild", "relaxed"),
    ("wild", "intense", "loud", "fast", "thrilling", "fierce", "extreme", "furious"),
)
STYLE_B = (
    ("classic", "vintage", "traditional", "old", "heritage", "antique", "rustic", "timeless"),
    ("modern", "futuristic", "innovative", "new", "digital", "sleek", "experimental", "trendy"),
)

# Ways of writing: nuisance.
REGISTERS: tuple[tuple[str, ...], ...] = (
    ("unbelievable", "shocking", "viral", "insane", "secret", "revealed", "omg", "must-see", "epic", "crazy"),
    (
        "therefore",
        "furthermore",
        "analysis",
        "regarding",
        "methodology",
        "evidence",
        "hence",
        "thesis",
        "chapter",
        "appendix",
    ),
    ("moonlight", "whisper", "dream", "silver", "longing", "shadow", "petal", "autumn", "velvet", "drifting"),
    ("buy", "discount", "offer", "shipping", "sale", "premium", "coupon", "checkout", "bargain", "limited"),
    ("mum", "grandma", "cousin", "birthday", "yesterday", "anyway", "honestly", "family", "cosy", "neighbour"),
    ("step", "first", "next", "finally", "tutorial", "beginner", "checklist", "instructions", "repeat", "tip"),
)

FILLER = (
    "today", "people", "place", "thing", "story", "world", "little", "great", "about", "around", "really", "part",
    "week", "moment", "look", "show", "another", "friend", "watch", "idea", "question", "corner", "life", "best",
)  # fmt: skip

FORMATS = ("short", "clip", "live", "interview", "series", "compilation")
