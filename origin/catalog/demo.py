"""A demo catalog of our own, drawn from a seed: the same rows, to the byte, on every machine.

The rows have the schema of an import (docs/catalog-import.md), so that seeding a shop and importing a
file are one road. Everything is chosen by one `random.Random(seed)` in one order; sets, hashes, clocks
and floats have no part in it. Names of makers and collections are invented.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

SOURCE: Final = "demo"

BASE_CURRENCY: Final = "USD"


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of thing that a leaf category holds."""

    category: str
    """Names of the category and its parents, separated by ` > `."""
    noun: str
    """What it is; may hold `|` between words of which one is chosen."""
    materials: str
    styles: str
    low: int
    """Price range in cents."""
    high: int
    sizes: str = ""
    """`label:percent` where percent is the price in relation to the first; empty for one size."""
    colours: str = ""
    """Name of a colour way in _COLOURS; empty for none."""
    about: str = "home"
    """Which sentences describe it."""


_COLOURS: Final[Mapping[str, str]] = {
    "glaze": "Oat|Sage|Midnight|Terracotta|Chalk|Ochre|Smoke|Seafoam|Plum",
    "enamel": "White|Navy|Forest|Mustard|Poppy|Graphite|Duck egg",
    "textile": "Natural|Clay|Moss|Indigo|Blush|Charcoal|Saffron|Ivory|Rust",
    "timber": "Oak|Walnut|Ash|Blackened oak",
    "lacquer": "Cream|Olive|Brick|Petrol|Black|Butter",
    "paper": "Ink|Brick|Fern|Sand|Slate",
    "glass": "Clear|Smoke|Amber|Sage",
    "shade": "Linen|Chalk|Sage|Ochre|Charcoal",
}

_KINDS: Final[tuple[_Kind, ...]] = (
    # Kitchen
    _Kind(
        "Kitchen > Cookware > Saucepans",
        "saucepan|milk pan",
        "stainless steel|copper|enamelled steel",
        "straight-sided|long-handled|tri-ply|lipped",
        2900,
        12900,
        "16 cm:100|18 cm:115|20 cm:130",
        "",
        "cook",
    ),
    _Kind(
        "Kitchen > Cookware > Frying pans",
        "frying pan|skillet",
        "cast iron|carbon steel|stainless steel",
        "deep|pre-seasoned|shallow|everyday",
        2400,
        9900,
        "24 cm:100|28 cm:125",
        "",
        "cook",
    ),
    _Kind(
        "Kitchen > Cookware > Casseroles",
        "casserole|stockpot|Dutch oven",
        "cast iron|enamelled steel",
        "round|oval|lidded|shallow",
        5900,
        24900,
        "3 l:100|4.5 l:125|6 l:150",
        "enamel",
        "cook",
    ),
    _Kind(
        "Kitchen > Cookware > Kettles",
        "kettle",
        "enamelled steel|stainless steel",
        "whistling|gooseneck|stove-top",
        3900,
        9900,
        "",
        "enamel",
        "cook",
    ),
    _Kind(
        "Kitchen > Knives and boards > Kitchen knives",
        "chef's knife|paring knife|bread knife|santoku|utility knife",
        "carbon steel|stainless steel|Damascus steel",
        "full-tang|hand-forged|slim|everyday",
        1800,
        15900,
        "",
        "",
        "cut",
    ),
    _Kind(
        "Kitchen > Knives and boards > Chopping boards",
        "chopping board|cheese board|bread board",
        "oak|walnut|beech|acacia",
        "end-grain|grooved|slim|round",
        1900,
        8900,
        "Small:100|Large:145",
        "",
        "wood",
    ),
    _Kind(
        "Kitchen > Baking > Cake and loaf tins",
        "loaf tin|cake tin|tart tin",
        "aluminised steel|enamelled steel|tinned steel",
        "loose-bottomed|deep|fluted|straight-sided",
        900,
        3400,
        "Small:100|Medium:120|Large:145",
        "",
        "cook",
    ),
    _Kind(
        "Kitchen > Baking > Mixing bowls",
        "mixing bowl|batter bowl",
        "stoneware|enamelled steel|earthenware",
        "lipped|nesting|deep|speckled",
        1600,
        5900,
        "2 l:100|4 l:150",
        "glaze",
        "pot",
    ),
    _Kind(
        "Kitchen > Baking > Rolling pins",
        "rolling pin",
        "beech|maple|marble|walnut",
        "tapered|straight|French",
        1200,
        4200,
        "",
        "",
        "wood",
    ),
    _Kind(
        "Kitchen > Utensils > Spoons and spatulas",
        "wooden spoon|spatula|ladle|serving spoon",
        "olive wood|beech|cherry",
        "long-handled|slotted|carved|slim",
        500,
        2800,
        "",
        "",
        "wood",
    ),
    _Kind(
        "Kitchen > Utensils > Whisks and graters",
        "whisk|grater|peeler",
        "stainless steel|tinned steel",
        "balloon|fine|flat|everyday",
        700,
        3200,
        "",
        "",
        "cook",
    ),
    _Kind(
        "Kitchen > Storage > Storage jars",
        "storage jar|canister",
        "stoneware|glass|enamelled steel",
        "airtight|cork-topped|clip-top|ribbed",
        900,
        4500,
        "0.5 l:100|1 l:135|2 l:180",
        "glaze",
        "pot",
    ),
    # Table
    _Kind(
        "Table > Mugs and cups > Mugs",
        "mug",
        "stoneware|porcelain|earthenware|enamelled steel",
        "speckled|ribbed|footed|hand-thrown|dipped|rounded",
        1100,
        3400,
        "",
        "glaze",
        "pot",
    ),
    _Kind(
        "Table > Mugs and cups > Espresso cups",
        "espresso cup|flat white cup",
        "porcelain|stoneware",
        "fluted|footed|hand-thrown|slim",
        900,
        2600,
        "Single:100|Set of four:360",
        "glaze",
        "pot",
    ),
    _Kind(
        "Table > Mugs and cups > Teapots",
        "teapot",
        "stoneware|porcelain|cast iron",
        "rounded|ribbed|cane-handled|low",
        3400,
        9900,
        "0.6 l:100|1.1 l:135",
        "glaze",
        "pot",
    ),
    _Kind(
        "Table > Plates and bowls > Plates",
        "dinner plate|side plate|pasta plate",
        "stoneware|porcelain|earthenware",
        "rimmed|coupe|speckled|scalloped",
        1200,
        4200,
        "Single:100|Set of four:370",
        "glaze",
        "pot",
    ),
    _Kind(
        "Table > Plates and bowls > Bowls",
        "bowl|cereal bowl|serving bowl",
        "stoneware|porcelain|earthenware",
        "footed|ribbed|speckled|deep",
        1100,
        5900,
        "Small:100|Large:150",
        "glaze",
        "pot",
    ),
    _Kind(
        "Table > Glassware > Tumblers",
        "tumbler",
        "recycled glass|crystal|soda glass",
        "ribbed|stacking|fluted|heavy-based",
        700,
        2900,
        "Single:100|Set of four:360",
        "glass",
        "glass",
    ),
    _Kind(
        "Table > Glassware > Wine glasses",
        "wine glass|coupe glass",
        "crystal|recycled glass",
        "stemmed|fluted|rounded|fine",
        1200,
        4500,
        "Single:100|Set of two:190",
        "",
        "glass",
    ),
    _Kind(
        "Table > Glassware > Carafes and jugs",
        "carafe|jug|pitcher",
        "recycled glass|stoneware|borosilicate glass",
        "tall|ribbed|lipped|rounded",
        1900,
        6500,
        "",
        "glass",
        "glass",
    ),
    _Kind(
        "Table > Cutlery",
        "cutlery set|teaspoon set|steak knife set",
        "stainless steel|brushed steel|olive wood",
        "slim|hammered|round-handled|satin",
        2900,
        18900,
        "16 pieces:100|24 pieces:145",
        "",
        "cut",
    ),
    # Lighting
    _Kind(
        "Lighting > Table lamps",
        "table lamp|desk lamp|bedside lamp",
        "ceramic|turned oak|brass|powder-coated steel",
        "fluted|domed|slender|adjustable",
        4900,
        22900,
        "",
        "shade",
        "light",
    ),
    _Kind(
        "Lighting > Floor lamps",
        "floor lamp|reading lamp",
        "brass|oak|powder-coated steel",
        "arched|tripod|slender|adjustable",
        9900,
        38900,
        "",
        "shade",
        "light",
    ),
    _Kind(
        "Lighting > Pendant lights",
        "pendant light|pendant",
        "spun metal|ceramic|opal glass|rattan",
        "domed|fluted|conical|bell",
        5900,
        28900,
        "Small:100|Large:160",
        "lacquer",
        "light",
    ),
    _Kind(
        "Lighting > Candles and lanterns > Candles",
        "candle|pillar candle|scented candle",
        "beeswax|soy wax|rapeseed wax",
        "hand-poured|tapered|slow-burning",
        800,
        4500,
        "",
        "glaze",
        "candle",
    ),
    _Kind(
        "Lighting > Candles and lanterns > Lanterns",
        "lantern",
        "brass|tinned steel|powder-coated steel",
        "storm|hanging|folding",
        2900,
        9900,
        "Small:100|Large:150",
        "",
        "light",
    ),
    # Furniture
    _Kind(
        "Furniture > Seating > Dining chairs",
        "dining chair|chair",
        "oak|ash|beech|walnut",
        "spindle-back|ladder-back|curved|stacking",
        11900,
        44900,
        "",
        "timber",
        "wood",
    ),
    _Kind(
        "Furniture > Seating > Armchairs",
        "armchair|lounge chair",
        "linen|wool|bouclé|leather",
        "low|deep|winged|buttoned",
        39900,
        149900,
        "",
        "textile",
        "seat",
    ),
    _Kind(
        "Furniture > Seating > Stools and benches",
        "stool|counter stool|footstool",
        "oak|ash|elm|rush",
        "three-legged|round|stacking|turned",
        5900,
        24900,
        "45 cm:100|65 cm:125",
        "timber",
        "wood",
    ),
    _Kind(
        "Furniture > Tables > Side tables",
        "side table|coffee table",
        "oak|ash|marble|walnut",
        "round|nesting|drop-leaf|turned",
        9900,
        49900,
        "",
        "timber",
        "wood",
    ),
    _Kind(
        "Furniture > Tables > Desks",
        "desk|writing desk",
        "oak|walnut|ash",
        "narrow|fold-down|two-drawer",
        29900,
        119900,
        "100 cm:100|140 cm:130",
        "timber",
        "wood",
    ),
    _Kind(
        "Furniture > Shelves and cabinets > Shelves",
        "shelf|wall shelf|bookcase",
        "oak|ash|powder-coated steel",
        "floating|ladder|open|stacking",
        4900,
        64900,
        "",
        "timber",
        "wood",
    ),
    _Kind(
        "Furniture > Shelves and cabinets > Cabinets",
        "cabinet|sideboard|bedside cabinet",
        "oak|walnut|cane",
        "sliding-door|two-door|reeded|low",
        19900,
        159900,
        "",
        "timber",
        "wood",
    ),
    # Textiles
    _Kind(
        "Textiles > Cushions and throws > Cushions",
        "cushion",
        "linen|wool|velvet|cotton",
        "piped|tufted|striped|fringed|quilted",
        2400,
        8900,
        "45 cm:100|50 × 30 cm:90",
        "textile",
        "cloth",
    ),
    _Kind(
        "Textiles > Cushions and throws > Throws",
        "throw|blanket",
        "lambswool|merino|cotton|linen",
        "herringbone|waffle|fringed|striped|checked",
        4900,
        19900,
        "",
        "textile",
        "cloth",
    ),
    _Kind(
        "Textiles > Bedding > Duvet covers",
        "duvet cover",
        "linen|percale cotton|brushed cotton",
        "stonewashed|striped|piped|plain",
        7900,
        24900,
        "Single:100|Double:130|King:150",
        "textile",
        "cloth",
    ),
    _Kind(
        "Textiles > Bedding > Pillowcases",
        "pillowcase|pillowcase pair",
        "linen|percale cotton|silk",
        "stonewashed|piped|striped|plain",
        1900,
        6900,
        "",
        "textile",
        "cloth",
    ),
    _Kind(
        "Textiles > Bath > Towels",
        "towel|bath towel|hand towel",
        "organic cotton|waffle cotton|linen",
        "fringed|ribbed|striped|deep-pile",
        1200,
        6900,
        "Hand:100|Bath:170|Bath sheet:240",
        "textile",
        "cloth",
    ),
    _Kind(
        "Textiles > Rugs",
        "rug|runner",
        "wool|jute|cotton|recycled wool",
        "flat-woven|striped|hand-knotted|checked",
        6900,
        59900,
        "60 × 90 cm:100|140 × 200 cm:290",
        "textile",
        "cloth",
    ),
    _Kind(
        "Textiles > Table linen",
        "tablecloth|napkin set|apron|tea towel",
        "linen|cotton|half linen",
        "stonewashed|striped|checked|plain",
        1100,
        8900,
        "",
        "textile",
        "cloth",
    ),
    # Garden
    _Kind(
        "Garden > Pots and planters",
        "planter|plant pot",
        "terracotta|stoneware|concrete|zinc",
        "ribbed|footed|tapered|round|hanging",
        900,
        8900,
        "12 cm:100|18 cm:140|26 cm:210",
        "glaze",
        "garden",
    ),
    _Kind(
        "Garden > Watering cans",
        "watering can",
        "galvanised steel|brass|enamelled steel",
        "long-reach|indoor|slender",
        2400,
        7900,
        "1 l:100|5 l:165",
        "enamel",
        "garden",
    ),
    _Kind(
        "Garden > Hand tools",
        "trowel|hand fork|weeder",
        "forged steel|stainless steel|copper",
        "ash-handled|narrow|long-handled",
        1200,
        5400,
        "",
        "",
        "garden",
    ),
    _Kind(
        "Garden > Houseplants",
        "fern|rubber plant|snake plant|pothos|peace lily",
        "nursery-grown|pot-grown",
        "young|trailing|upright|compact|bushy",
        900,
        6900,
        "Small:100|Medium:160|Large:290",
        "",
        "plant",
    ),
    _Kind(
        "Garden > Bird care",
        "bird feeder|nesting box|bird table",
        "cedar|oak|galvanised steel",
        "hanging|slate-roofed|squirrel-proof",
        1400,
        6900,
        "",
        "",
        "garden",
    ),
    # Pantry
    _Kind(
        "Pantry > Oils and vinegars",
        "olive oil|cider vinegar|rapeseed oil|balsamic vinegar",
        "cold-pressed|unfiltered|first-harvest",
        "peppery|mellow|fruity|aged",
        700,
        3400,
        "250 ml:100|500 ml:170",
        "",
        "food",
    ),
    _Kind(
        "Pantry > Jams and honey",
        "honey|marmalade|raspberry jam|fig jam|apricot jam",
        "small-batch|raw|slow-cooked",
        "wild|late-summer|old-fashioned|dark",
        450,
        1800,
        "",
        "",
        "food",
    ),
    _Kind(
        "Pantry > Coffee",
        "coffee beans|espresso beans|filter coffee",
        "washed|natural-process|honey-process",
        "single-farm|house-blend|light-roast|dark-roast",
        900,
        2800,
        "250 g:100|1 kg:340",
        "",
        "drink",
    ),
    _Kind(
        "Pantry > Tea",
        "Assam tea|Earl Grey tea|mint tea|oolong tea|breakfast tea",
        "loose-leaf|whole-leaf",
        "spring|smoky|malty|bright",
        650,
        2600,
        "",
        "",
        "drink",
    ),
    _Kind(
        "Pantry > Chocolate",
        "chocolate bar|drinking chocolate",
        "milk|dark|white",
        "sea-salt|hazelnut|stone-ground|70%|caramel",
        390,
        1600,
        "",
        "",
        "food",
    ),
    _Kind(
        "Pantry > Pasta and grains",
        "spaghetti|orzo|farro|polenta|rigatoni",
        "bronze-cut|heritage-wheat|stone-milled",
        "slow-dried|wholegrain|artisan",
        320,
        1200,
        "",
        "",
        "food",
    ),
    _Kind(
        "Pantry > Spices and salt",
        "sea salt|smoked paprika|black pepper|za'atar|cinnamon",
        "hand-harvested|stone-ground|whole",
        "flaky|fragrant|coarse|sun-dried",
        350,
        1400,
        "",
        "",
        "food",
    ),
    # Desk and carry
    _Kind(
        "Desk and carry > Notebooks",
        "notebook|sketchbook|diary|pocket book",
        "cloth-bound|sewn|recycled-paper",
        "dotted|ruled|plain|lay-flat",
        600,
        3200,
        "A6:100|A5:140",
        "paper",
        "paper",
    ),
    _Kind(
        "Desk and carry > Pens and pencils",
        "pencil set|fountain pen|ballpoint|mechanical pencil",
        "cedar|brass|aluminium",
        "hexagonal|slim|fine|everyday",
        500,
        8900,
        "",
        "lacquer",
        "paper",
    ),
    _Kind(
        "Desk and carry > Books",
        "cookbook|garden almanac|field guide|baking book",
        "hardback|cloth-bound|paperback",
        "illustrated|pocket|seasonal|everyday",
        1400,
        4900,
        "",
        "",
        "book",
    ),
    _Kind(
        "Desk and carry > Bags > Tote bags",
        "tote bag|market bag|shopper",
        "canvas|linen|waxed cotton|leather",
        "roomy|zipped|striped|everyday",
        1900,
        14900,
        "",
        "textile",
        "bag",
    ),
    _Kind(
        "Desk and carry > Bags > Backpacks",
        "backpack|rucksack",
        "canvas|waxed cotton|recycled nylon",
        "roll-top|slim|day|buckled",
        5900,
        19900,
        "14 l:100|22 l:120",
        "textile",
        "bag",
    ),
    # Bath
    _Kind(
        "Bath and body > Soap",
        "soap|hand wash|soap bar",
        "olive-oil|goat-milk|oatmeal",
        "lavender|rosemary|unscented|cedar|citrus",
        450,
        2400,
        "",
        "",
        "soap",
    ),
    _Kind(
        "Bath and body > Brushes and combs",
        "bath brush|nail brush|comb",
        "beech|olive wood|pear wood",
        "long-handled|fine|firm|soft",
        800,
        3900,
        "",
        "",
        "wood",
    ),
    _Kind(
        "Bath and body > Bath accessories",
        "soap dish|bath mat|toothbrush cup|mirror",
        "stoneware|teak|brass|cork",
        "ribbed|round|slatted|plain",
        1200,
        12900,
        "",
        "glaze",
        "home",
    ),
)

_COLLECTIONS: Final[Sequence[str]] = """
Aldery Amble Arden Aster Barrow Bexley Birchall Bramber Briony Calder Cairn Clove Coldwater Corrie Cotter
Dapple Dunmore Elder Esker Fallow Fenwick Ferrier Filbert Foxley Garth Glaisdale Gorse Greyling Halden
Harrow Hazelbeck Heron Holm Hythe Inverlea Islay Juniper Kestrel Kittering Lark Linnet Loam Lowther Mallow
Marlow Medlar Merrow Millbrook Mossgate Nettle Norland Oakhanger Orrell Osier Pellow Penrose Pippin Quill
Ravel Redwing Rowan Rushmere Saltmarsh Sedge Selby Sorrel Stanlow Starling Tamar Tansy Teasel Thistle
Thornby Tilney Umber Vale Vetch Wendle Whinfell Willow Winterbourne Withy Wren Yarrow Yewdale
""".split()  # noqa: SIM905 - a list that people read and add to

_ABOUT: Final[Mapping[str, tuple[str, ...]]] = {
    "cook": (
        "Heats evenly, holds its heat and goes from hob to table without a change of clothes.",
        "The handle is riveted, the base is flat and the balance is right: it will outlast the kitchen.",
        "Works on gas, electric and induction, and in the oven up to 230 °C.",
        "A weekday pan that does not mind being used on Sundays.",
        "Gets better with use; a little oil after washing is all it asks.",
    ),
    "cut": (
        "Ground thin, tempered hard and sharpened by hand before it leaves the bench.",
        "The weight sits just ahead of the grip, so that it does the work and you do the steering.",
        "Keep it dry, hone it often and hand it down.",
        "Holds an edge through a long season of onions.",
    ),
    "wood": (
        "Cut from one seasoned plank, oiled twice and sanded until it asks to be touched.",
        "Joined without screws by a workshop of six that has been at it since 1974.",
        "No two are alike: grain and colour will differ a little from the picture.",
        "Timber from managed woods, finished with a hard oil that can be renewed at home.",
    ),
    "pot": (
        "Thrown in small batches, glazed by dipping and fired twice, so each piece differs a little.",
        "Safe in dishwasher, microwave and the hands of guests.",
        "The foot is left unglazed and ground smooth; it will not mark the table.",
        "Pleasantly heavy in the hand, with a rim as thin as the clay allows.",
    ),
    "glass": (
        "Mouth-blown, with the small bubbles and seeds that tell it from a machine's work.",
        "Thin at the lip and heavy at the base, as a glass should be.",
        "Dishwasher safe on the gentle programme.",
        "Stacks without sticking, and looks well with water in it.",
    ),
    "light": (
        "Throws a warm, even pool of light and none in your eyes.",
        "Two metres of cloth-covered cable, an E27 holder and a switch where the hand expects it.",
        "The shade lifts off for dusting; the bulb is not included.",
        "Quiet by day, generous by night.",
    ),
    "candle": (
        "Burns clean for about forty hours with a cotton wick trimmed short.",
        "Poured by hand in small batches, without dyes.",
        "A gentle scent of the orchard after rain.",
    ),
    "seat": (
        "A hardwood frame, webbed and sprung by hand, with covers that come off for washing.",
        "Deep enough to tuck your feet up, upright enough to get out of again.",
        "Upholstered to order; fabric from a mill an hour away.",
    ),
    "cloth": (
        "Woven on narrow looms, washed soft and cut generously.",
        "Grows softer with every wash; 40 °C, then the line rather than the dryer.",
        "Dyed in small lots, so order what you need at once.",
        "Certified free of harmful substances, from field to hem.",
    ),
    "garden": (
        "Made to be left outside and to look the better for it.",
        "Frost-proof to −15 °C, with a hole where the water wants out.",
        "A tool for life: the head is forged in one piece and the handle can be replaced.",
    ),
    "plant": (
        "Forgiving of missed waterings; happiest in bright shade, away from the radiator.",
        "Raised without peat and sent in a paper collar, ready for its next pot.",
        "Cleans the air a little and the mood a lot.",
    ),
    "food": (
        "Made by one family in small lots, and gone when it is gone.",
        "Keep it cool and dark, and finish it within a month of opening.",
        "Good on toast, better on the second slice.",
        "No additives, no fillers: the label is short because the list is.",
    ),
    "drink": (
        "Packed the week it is ordered, in a bag that can be composted.",
        "Notes of toffee and orange peel, with a clean finish.",
        "Bought direct, at a price agreed before the harvest.",
    ),
    "paper": (
        "Sewn, not glued, so that it lies flat from the first page to the last.",
        "Paper of 100 g that takes ink without a ghost on the other side.",
        "Made to be refilled rather than replaced.",
    ),
    "book": (
        "A hundred and twenty short chapters, to be read with floury or muddy hands.",
        "Printed on uncoated stock and bound with a ribbon.",
        "Drawings throughout, and an index that finds things.",
    ),
    "bag": (
        "Holds a week's vegetables or a laptop, and forgives both.",
        "Seams are bound, straps are bar-tacked and the base is doubled.",
        "An inside pocket for keys; folds flat when empty.",
    ),
    "soap": (
        "Cold-processed and cured for six weeks; kind to dry hands.",
        "Scented only with what grows, and wrapped in paper.",
        "No palm oil, no plastics.",
    ),
    "home": (
        "A plain thing done properly, for a place that is used every day.",
        "Wipes clean, dries fast and does not ask for attention.",
        "Designed with a joiner and a hotel housekeeper in the room.",
    ),
}

_MAKERS: Final = (
    "Abbot & Daughters", "Bramble Works", "Carrow Pottery", "Daleside Mill", "Eastgate Forge", "Fold & Field",
    "Greaves Joinery", "Hollins Glass", "Ivory Lane", "Kiln Yard", "Lowfield Looms", "Moss & Mortar", "Northlight",
    "Old Dairy Stores", "Ropewalk", "Saddler's Row", "Tolland Brothers", "Weir Street",
)  # fmt: skip
_PLACES: Final = ("England", "Portugal", "Japan", "Denmark", "Italy", "Wales", "France", "Scotland", "Sweden", "India")

_EXPLICIT_PERCENT: Final = 12
"""So many of a hundred products have prices of their own in some markets; the others are converted."""
_EXPLICIT_PERCENT_POPULAR: Final = 90
"""The same among the tenth that sells best: these a merchandiser prices by hand."""


def demo_catalog(products: int = 5_000, seed: int = 1) -> Iterator[dict[str, Any]]:
    """The categories, then `products` products, as rows of an import file. Same arguments, same rows."""
    if products < 0:
        raise ValueError(f"products is {products}, expected zero or more")
    rng = random.Random(seed)
    yield from _categories()
    ranks = list(range(products))
    rng.shuffle(ranks)
    seen: set[str] = set()
    for number in range(products):
        kind = _KINDS[number % len(_KINDS)] if number < len(_KINDS) else _KINDS[rng.randrange(len(_KINDS))]
        yield _product(rng, kind, number, ranks[number], products, seen)


def _categories() -> Iterator[dict[str, Any]]:
    known: set[str] = set()
    for kind in _KINDS:
        names = kind.category.split(" > ")
        for level in range(1, len(names) + 1):
            category_id = _category_id(names[:level])
            if category_id in known:
                continue
            known.add(category_id)
            yield {
                "id": category_id,
                "parent_id": _category_id(names[: level - 1]) if level > 1 else None,
                "name": names[level - 1],
                "level": level,
                "source": SOURCE,
                "derived": False,
            }


def _category_id(names: Sequence[str]) -> str:
    return "/".join([SOURCE, *(name.lower().replace(" ", "-") for name in names)])


def _product(rng: random.Random, kind: _Kind, number: int, rank: int, products: int, seen: set[str]) -> dict[str, Any]:
    while True:
        collection, material = _pick(rng, _COLLECTIONS), _pick(rng, kind.materials.split("|"))
        style, noun = _pick(rng, kind.styles.split("|")), _pick(rng, kind.noun.split("|"))
        words = f"{style} {material} {noun}" if rng.randrange(3) == 0 else f"{material} {noun}"
        name = f"{collection} {words}"
        if name not in seen or len(seen) > 40_000:
            break
    seen.add(name)
    sku = f"{noun.replace(chr(39), '').replace(' ', '')[:3].upper()}-{collection[:3].upper()}-{10_000 + number}"
    cents = _with_ending(rng, kind.low + rng.randrange(kind.high - kind.low) * rng.randrange(20, 101) // 100)
    attributes: dict[str, Any] = {
        "Material": material[0].upper() + material[1:],
        "Style": style[0].upper() + style[1:],
        "Made by": _pick(rng, _MAKERS),
        "Made in": _pick(rng, _PLACES),
    }
    if kind.about in {"pot", "glass"}:
        attributes["Dishwasher safe"] = rng.randrange(5) > 0
    if kind.about not in {"food", "drink", "plant", "candle", "soap"}:
        attributes["Guarantee"] = f"{_pick(rng, ('2', '5', '10', '25'))} years"
    sizes = _sizes(rng, kind)
    colours = _colours(rng, kind)
    if len(colours) == 1:
        attributes["Colour"] = colours[0]
    row: dict[str, Any] = {
        "id": f"{SOURCE}-{10_000 + number}",
        "source": SOURCE,
        "sku": sku,
        "name": name,
        "description": _describe(rng, kind, material, noun),
        "category_ids": [_category_id(kind.category.split(" > "))],
        "prices": _prices(rng, cents, popular=rank * 10 < products),
        "attributes": attributes,
        "quantity": _stock(rng),
        "popularity": 240_000 // (rank + 12),
        "first_sold_at": _first_day(rng),
    }
    options = []
    if len(sizes) > 1:
        options.append({"name": "size", "values": [label for label, _ in sizes]})
    if len(colours) > 1:
        options.append({"name": "colour", "values": colours})
    if options:
        row["options"] = options
        row["variants"] = list(_variants(rng, sku, cents, sizes, colours))
    return row


def _pick(rng: random.Random, values: Sequence[str]) -> str:
    return values[rng.randrange(len(values))]


def _sizes(rng: random.Random, kind: _Kind) -> list[tuple[str, int]]:
    if not kind.sizes or rng.randrange(10) < 3:
        return []
    pairs = (size.rsplit(":", 1) for size in kind.sizes.split("|"))
    return [(label, int(percent)) for label, percent in pairs]


def _colours(rng: random.Random, kind: _Kind) -> list[str]:
    if not kind.colours:
        return []
    left = _COLOURS[kind.colours].split("|")
    count = min(len(left), _choose_weighted(rng, ((1, 5), (2, 2), (3, 3), (4, 2))))
    return [left.pop(rng.randrange(len(left))) for _ in range(count)]


def _first_day(rng: random.Random) -> str:
    year, month, day = 2024 + rng.randrange(2), 1 + rng.randrange(12), 1 + rng.randrange(28)
    return f"{year}-{month:02d}-{day:02d}T09:00:00Z"


def _choose_weighted(rng: random.Random, weighted: Sequence[tuple[int, int]]) -> int:
    at = rng.randrange(sum(weight for _, weight in weighted))
    for value, weight in weighted:
        if at < weight:
            return value
        at -= weight
    raise AssertionError("a weight was drawn past the last")


def _variants(
    rng: random.Random, sku: str, cents: int, sizes: Sequence[tuple[str, int]], colours: Sequence[str]
) -> Iterator[dict[str, Any]]:
    for label, percent in sizes if len(sizes) > 1 else [("", 100)]:
        for colour in colours if len(colours) > 1 else [""]:
            options = {"size": label} if label else {}
            if colour:
                options["colour"] = colour
            suffix = "-".join(_code(part) for part in (label, colour) if part)
            price = cents if percent == 100 else _ending_like(cents, cents * percent // 100)
            yield {
                "sku": f"{sku}-{suffix}",
                "options": options,
                "prices": [{"currency": BASE_CURRENCY, "amount": _amount(price)}],
                "quantity": _stock(rng),
            }


def _code(label: str) -> str:
    return "".join(character for character in label.upper().replace("×", "X") if character.isalnum())[:9]


def _with_ending(rng: random.Random, cents: int) -> int:
    """`cents` with the ending that shops give a price of its size."""
    if cents >= 20_000:
        return cents // 1_000 * 1_000 + (900 if rng.randrange(3) else 500)
    if cents >= 5_000:
        return cents // 500 * 500 + (0 if rng.randrange(3) else -100)
    ending = 99 if rng.randrange(2) else 95 if rng.randrange(3) else 50
    return cents // 100 * 100 + ending


def _ending_like(model: int, cents: int) -> int:
    """`cents` with the same last digits as `model`, so that the sizes of one thing look priced by one hand."""
    step = 1_000 if model >= 20_000 else 100
    return cents // step * step + model % step


def _prices(rng: random.Random, cents: int, *, popular: bool) -> list[dict[str, str]]:
    """The price in dollars and, for some products, in other currencies as a merchandiser would set it."""
    prices = [{"currency": BASE_CURRENCY, "amount": _amount(cents)}]
    if rng.randrange(100) >= (_EXPLICIT_PERCENT_POPULAR if popular else _EXPLICIT_PERCENT):
        return prices
    for currency, percent in (("EUR", 95), ("GBP", 82), ("CAD", 135)):
        if rng.randrange(3):
            prices.append({"currency": currency, "amount": _amount(_ending_like(cents, cents * percent // 100))})
    if rng.randrange(2):
        yen = max(cents * 150 // 10_000 * 100 + 80, 180)
        prices.append({"currency": "JPY", "amount": str(yen)})
    return prices


def _amount(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _stock(rng: random.Random) -> int:
    return _choose_weighted(
        rng, ((0, 6), (1 + rng.randrange(4), 12), (6 + rng.randrange(34), 52), (40 + rng.randrange(260), 30))
    )


def _describe(rng: random.Random, kind: _Kind, material: str, noun: str) -> str:
    left = list(_ABOUT[kind.about])
    first = left.pop(rng.randrange(len(left)))
    second = left.pop(rng.randrange(len(left)))
    article = "An" if material[0].lower() in "aeiou" else "A"
    plural = noun.endswith(
        ("beans", "salt", "honey", "oil", "vinegar", "tea", "coffee", "polenta", "spaghetti", "pasta")
    )
    opening = f"{material[0].upper()}{material[1:]} {noun}" if plural else f"{article} {material} {noun}"
    return f"{opening} made for years of use. {first}\n\n{second}"
