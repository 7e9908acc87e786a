"""Pictures of products, drawn: the words of its name and category choose what is drawn, its colour or material how,
and a digest of its SKU the rest. The same product has the same picture everywhere, to the byte.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final
from urllib.parse import quote
from xml.sax.saxutils import escape

from origin.catalog import drawings
from origin.catalog.drawings import GROUNDS, MOTIFS, Ink
from origin.catalog.model import Card

# In every digest, so that a change of a drawing changes the addresses of all pictures: they are kept for a year.
_RELEASE: Final = hashlib.sha256(Path(__file__).read_bytes() + Path(drawings.__file__).read_bytes()).digest()

_WORD: Final = re.compile(r"[a-z]+")


def path_of(card: Card) -> str:
    """`/art/{digest}/{sku}.svg`."""
    return f"/art/{digest_of(card)}/{quote(card.sku, safe='')}.svg"


def digest_of(card: Card) -> str:
    """16 hexadecimal digits that change when the drawing may."""
    return _digest(card.sku, card.name, card.category_path, card.colour)


def draw(card: Card) -> str:
    """The picture as SVG, less than 4 kB."""
    ink = _ink_of(card)
    motif = motif_of(card.name, card.category_path)
    body = MOTIFS[motif](ink) if motif else drawings.monogram(ink, card.name)
    thing = drawings.placed(ink, body, mirrored=motif is not None)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 400" width="400" height="400" role="img">'
        f"<title>{escape(card.name)}</title>{drawings.ground(ink)}{thing}</svg>"
    )


def motif_of(name: str, category_path: str) -> str | None:
    """What to draw: the last word of the name that says so, else the last of the category; None for a monogram."""
    for text in (name, *reversed(category_path.split("/"))):
        words = _WORD.findall(text.lower())
        for length in (3, 2, 1):
            for at in range(len(words) - length, -1, -1):
                if (motif := _motif_of_word(" ".join(words[at : at + length]))) is not None:
                    return motif
    return None


@lru_cache(maxsize=4_096)
def _motif_of_word(word: str) -> str | None:
    for candidate in (word, word.removesuffix("s"), word.removesuffix("es")):
        if (motif := _WORDS.get(candidate)) is not None:
            return motif
    return None


@lru_cache(maxsize=32_768)
def _digest(*parts: str) -> str:
    return hashlib.sha256(_RELEASE + "\x00".join(parts).encode()).hexdigest()[:16]


# Colour.

_DYES: Final[Mapping[str, tuple[str, str, str]]] = {
    # main, dark, light
    "oat": ("#d9c7a7", "#b7a27d", "#eee2cb"), "sage": ("#93a98a", "#6f8768", "#b9cab1"),
    "midnight": ("#33425e", "#222d43", "#586a8b"), "terracotta": ("#c4714b", "#9c5333", "#dd9a7b"),
    "chalk": ("#f4efe6", "#d3cabc", "#ffffff"), "ochre": ("#d09a3a", "#a67623", "#e7bf76"),
    "smoke": ("#8b8f94", "#686c71", "#b3b7bb"), "seafoam": ("#8fc1b5", "#659a8d", "#bcded5"),
    "plum": ("#7b4a68", "#5a324b", "#a3748f"), "white": ("#f6f3ee", "#cfc8bd", "#ffffff"),
    "navy": ("#2f4468", "#1f2f4b", "#55709c"), "forest": ("#3f6650", "#2b4938", "#668f78"),
    "mustard": ("#d3a02f", "#a67a1a", "#e8c46d"), "poppy": ("#cf4b38", "#a13425", "#e58172"),
    "graphite": ("#4b4e52", "#33363a", "#75797e"), "duck egg": ("#a9cdcb", "#7ba6a4", "#d0e5e4"),
    "natural": ("#dccdb2", "#b8a685", "#efe5d2"), "clay": ("#b98468", "#93634a", "#d6ac96"),
    "moss": ("#75804a", "#565f33", "#9da673"), "indigo": ("#3e4a86", "#2b3463", "#6a76b0"),
    "blush": ("#e2b3a8", "#bf8b7f", "#f1d3cc"), "charcoal": ("#4a4744", "#32302e", "#74706c"),
    "saffron": ("#e0a024", "#b47c12", "#f0c469"), "ivory": ("#f1e8d6", "#cfc3ab", "#fbf7ee"),
    "rust": ("#ab5630", "#833d1f", "#cb825f"), "oak": ("#c79a63", "#a1763f", "#dfbc90"),
    "walnut": ("#7c5438", "#5b3b25", "#a17a5c"), "ash": ("#d8bf98", "#b39a72", "#ebdabd"),
    "cream": ("#efe3c8", "#cbbc9a", "#faf3e2"), "olive": ("#7d7f3f", "#5d5f2b", "#a5a76c"),
    "brick": ("#a94f3c", "#813827", "#c97f6e"), "petrol": ("#2b6470", "#1b4750", "#558e99"),
    "black": ("#37352f", "#22211d", "#615e57"), "butter": ("#eed27f", "#c8a951", "#f7e6b2"),
    "ink": ("#2e3a57", "#1e273d", "#56648a"), "fern": ("#5d8a55", "#43683c", "#8ab082"),
    "sand": ("#d8bd90", "#b3986b", "#ecdabb"), "slate": ("#66727c", "#4a545c", "#919ca5"),
    "clear": ("#cfe2e4", "#a5c4c8", "#edf6f7"), "amber": ("#cf8d3c", "#a56a22", "#e5b678"),
    "linen": ("#e2d5bf", "#bcac90", "#f3ebdc"), "blackened oak": ("#45392f", "#2e251e", "#6d5f53"),
    "red": ("#c8442f", "#9a2f1e", "#e07a69"), "blue": ("#3f6ea8", "#2b4e7b", "#6f9acb"),
    "green": ("#4f8757", "#38643f", "#7fb087"), "yellow": ("#e4b93a", "#b88f1f", "#f2d67f"),
    "pink": ("#dd8fa0", "#b76877", "#efbcc7"), "purple": ("#75528f", "#553a6a", "#9e80b5"),
    "orange": ("#dc7f35", "#b05f1e", "#edab78"), "brown": ("#8a5d3d", "#674329", "#b08562"),
    "grey": ("#8d8d8b", "#6a6a68", "#b6b6b4"), "gray": ("#8d8d8b", "#6a6a68", "#b6b6b4"),
    "silver": ("#c3c8cc", "#979da2", "#e3e6e8"), "gold": ("#d3a94b", "#a68130", "#e8cb87"),
}  # fmt: skip

_STUFFS: Final = {
    "copper": "terracotta", "brass": "gold", "cast iron": "graphite", "steel": "silver", "walnut": "walnut",
    "olive wood": "oak", "oak": "oak", "beech": "ash", "ash": "ash", "acacia": "walnut", "cedar": "rust",
    "maple": "ash", "cherry": "brick", "pear wood": "clay", "marble": "chalk", "terracotta": "terracotta",
    "zinc": "silver", "concrete": "smoke", "rattan": "sand", "cane": "sand", "jute": "sand", "leather": "brown",
    "glass": "clear", "crystal": "clear", "beeswax": "butter", "soy wax": "ivory", "dark": "walnut", "milk": "brown",
    "linen": "linen", "cork": "sand", "teak": "clay",
}  # fmt: skip

_USUAL: Final = (
    "sage", "terracotta", "navy", "ochre", "chalk", "clay", "seafoam", "plum", "petrol", "blush", "forest", "oat",
    "mustard", "indigo", "olive", "rust",
)  # fmt: skip


def _ink_of(card: Card) -> Ink:
    chance = hashlib.sha256(f"{card.sku}\x00{card.name}".encode()).digest()
    words = card.name.lower()
    colour = card.colour.lower() if card.colour.lower() in _DYES else ""
    if not colour:
        colour = next((dye for dye in _DYES if re.search(rf"\b{dye}\b", words)), "")
    if not colour:
        colour = next((dye for stuff, dye in _STUFFS.items() if re.search(rf"\b{stuff}\b", words)), "")
    if not colour:
        colour = _USUAL[chance[0] % len(_USUAL)]
    main, dark, light = _DYES[colour]
    ground, shape = GROUNDS[chance[1] % len(GROUNDS)]
    accent = _DYES[_USUAL[chance[2] % len(_USUAL)]][0]
    return Ink(ground, shape, main, dark, light, accent, chance)


# What is drawn.

_WORDS: Final[Mapping[str, str]] = {
    word: motif
    for motif, words in {
        "mug": "mug|cup|espresso cup|flat white cup|toothbrush cup|beaker|teacup|coffee cup",
        "teapot": "teapot", "kettle": "kettle", "pan": "saucepan|milk pan|pan|cookware|pot pan",
        "skillet": "skillet|frying pan|wok|griddle", "casserole": "casserole|stockpot|dutch oven|cocotte",
        "knife": "knife|santoku|chopper|cleaver",
        "board": "board|chopping board|cheese board|bread board|tray|coaster|placemat|doormat",
        "tin": "loaf tin|cake tin|tart tin|bakeware|muffin|cake|cakestand|pastry|pie|cookie|brownie|baking",
        "bowl": "bowl|dish|soap dish|colander|salad|soup|cereal|ramekin|oatmeal",
        "jar": (
            "jar|canister|honey|marmalade|jam|jelly|pickle|salt|pepper|paprika|cinnamon|za atar|spice|sauce|"
            "spread|mustard|preserve|peanut butter|salsa|relish|vitamin|supplement|cream"
        ),
        "bottle": (
            "bottle|oil|vinegar|wine|syrup|dressing|beer|cider|spirit|olive oil|juice|drink|water|soda|ale|"
            "lotion|shampoo|conditioner|soft drink|perfume|hand wash"
        ),
        "plate": "plate|platter|dinnerware|dinner plate|pizza", "tumbler": "tumbler|glassware|smoothie|shake",
        "wineglass": "wine glass|coupe glass|goblet|flute",
        "jug": "jug|carafe|pitcher|vase|flower|bouquet|floral|tulip|rose|bloom",
        "cutlery": "cutlery|cutlery set|teaspoon set|steak knife set|fork|spoon|flatware",
        "utensil": "spatula|ladle|whisk|grater|peeler|wooden spoon|serving spoon|utensil|kitchenware|tong|kitchen",
        "pin": "rolling pin", "tablelamp": "lamp|table lamp|desk lamp|bedside lamp|lampshade|lighting",
        "floorlamp": "floor lamp|reading lamp", "pendant": "pendant|pendant light|light|chandelier|lightbulb|bulb",
        "candle": "candle|t light|candlestick|wax|incense|night light",
        "lantern": "lantern|holder|candleholder|lighted",
        "chair": "chair|dining chair|furniture", "armchair": "armchair|lounge chair|sofa|couch|recliner",
        "stool": "stool|counter stool|footstool|bench|ottoman", "table": "table|side table|coffee table|end table",
        "desk": "desk|writing desk", "shelf": "shelf|wall shelf|bookcase|shelves|rack|ladder",
        "cabinet": "cabinet|sideboard|bedside cabinet|dresser|drawer|cupboard|wardrobe|chest",
        "cushion": "cushion|pillow|pillowcase|pillowcase pair|quilt",
        "folded": (
            "throw|blanket|towel|bath towel|hand towel|tea towel|napkin set|tablecloth|apron|napkin|cloth|"
            "linen|scarf|bath mat|tissue|paper towel|diaper|wipe"
        ),
        "rug": "rug|runner|carpet|mat", "bed": "duvet cover|bed|bedding|mattress",
        "pot": (
            "planter|plant pot|fern|rubber plant|snake plant|pothos|peace lily|plant|herb|succulent|cactus|"
            "centerpiece|arrangement|garden|wreath|spinach|lettuce"
        ),
        "can": "watering can|can|bean|vegetable", "trowel": "trowel|hand fork|weeder|shovel|rake|spade|seed",
        "birdhouse": "bird feeder|nesting box|bird table|bird|birdhouse|birdcage|feeder",
        "pouch": (
            "coffee|coffee beans|espresso beans|filter coffee|rice|flour|sugar|spaghetti|orzo|farro|polenta|"
            "rigatoni|pasta|noodle|grain|dog food|cat food|pet food|cat litter|granola|detergent"
        ),
        "caddy": "tea|assam tea|earl grey tea|mint tea|oolong tea|breakfast tea|tin|cocoa|drinking chocolate",
        "bar": "chocolate bar|chocolate|candy|bar|fitness bar|gum",
        "tote": "tote|tote bag|market bag|shopper|bag|handbag|purse|lunch bag|jumbo bag|luggage",
        "backpack": "backpack|rucksack|satchel|duffle|suitcase|messenger",
        "notebook": "notebook|sketchbook|diary|pocket book|journal|stationery|notepad|planner",
        "pens": "pen|pencil|pencil set|fountain pen|ballpoint|mechanical pencil|crayon|marker|chalk|school supply",
        "book": "cookbook|garden almanac|field guide|baking book|book|novel|magazine|guide|travel|literature",
        "soap": "soap|soap bar|sponge|bathing|bath",
        "brush": "brush|bath brush|nail brush|comb|broom|razor|grooming|toothbrush",
        "mirror": "mirror|frame|photo frame|picture frame|picture|wall art|print",
        "shirt": (
            "shirt|tee|top|tank|jacket|hoodie|sweatshirt|sweater|bra|coat|vest|pullover|apparel|polo|dress|"
            "cardigan"
        ),
        "trousers": "trouser|pant|short|legging|jean|capri|bottom",
        "shoe": "shoe|sneaker|boot|sandal|footwear|slipper|sock|heel",
        "watch": "watch|bracelet watch",
        "screen": (
            "tv|television|computer|laptop|camera|phone|electronic|speaker|headphone|projector|tablet|console|"
            "doorbell"
        ),
        "guitar": "guitar|instrument|violin|ukulele|banjo|piano|percussion",
        "gem": "necklace|earring|ring|bracelet|jewelry|jewellery|brooch|charm|bangle|pearl",
        "basket": (
            "basket|fruit|grocery|produce|apple|banana|berry|tomato|potato|carrot|onion|citrus|grape|hamper|"
            "vegetables"
        ),
        "loaf": "bread|loaf|bun|roll|bagel|sandwich|toast|croissant|bakery|muffins",
        "cheese": "cheese|butter|dairy|yogurt|margarine",
        "fish": (
            "fish|seafood|salmon|tuna|shrimp|meat|beef|pork|chicken|turkey|ham|sausage|bacon|steak|lunchmeat|"
            "frankfurter|hot dog"
        ),
        "heart": "heart|hanging heart|love|valentine|ornament|decoration|hanging|garland|bunting",
        "bell": "christmas|xmas|christmas tree|advent|bauble|seasonal|santa|reindeer|holiday",
        "clock": "clock|alarm clock|timer",
        "box": "box|gift|gift set|storage box|storage|lunch box|set|kit|case|trinket",
        "card": "card|envelope|letter|greeting card|wrap|sticker|party|invitation|postcard|sign|paper",
        "toy": "toy|doll|bear|teddy|animal|puppet|rabbit|cat|dog|game|playhouse|kid|child|baby",
        "ball": "ball|yoga|fitness|sport|gym|exercise|outdoor",
        "tool": "tool|hammer|wrench|screwdriver|drill|saw|plier|axe|hardware|knob|hook|doorstop|drawer knob",
        "spray": (
            "spray|cleaner|deodorant|makeup|lipstick|cosmetic|hairspray|cleaning|beauty|medicine|remedy|hair|"
            "skin"
        ),
        "carton": "milk|carton|juice box|creamer|egg|ice cream|frozen",
        "snack": "chip|snack|pretzel|popcorn|cracker|nut|crisp|cookies|salty snack|bag snack",
    }.items()
    for word in words.split("|")
}  # fmt: skip
