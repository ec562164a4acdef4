"""Words of the generated shop: departments with their chains of leaves, collections, brands."""

from __future__ import annotations

# A department's leaves form a ring in which one purchase calls for the next (pan -> lid -> ladle).
DEPARTMENTS: dict[str, tuple[str, ...]] = {
    "Skin Care": (
        "Cleanser",
        "Toner",
        "Serum",
        "Moisturizer",
        "Sunscreen",
        "Mask",
        "Scrub",
        "Balm",
    ),
    "Kitchen": (
        "Saucepan",
        "Lid",
        "Ladle",
        "Colander",
        "Chopping Board",
        "Knife",
        "Grater",
        "Whisk",
    ),
    "Cycling": ("Helmet", "Gloves", "Saddle", "Pedals", "Lamp", "Pump", "Bottle", "Pannier"),
    "Garden": ("Spade", "Planter", "Seeds", "Trellis", "Sprinkler", "Shears", "Compost", "Gnome"),
    "Music": ("Guitar", "Strings", "Tuner", "Capo", "Strap", "Amplifier", "Cable", "Stand"),
    "Office": ("Desk", "Chair", "Notebook", "Pen", "Stapler", "Folder", "Shelf", "Clock"),
    "Painting": ("Canvas", "Easel", "Brush", "Palette", "Varnish", "Pigment", "Apron", "Frame"),
    "Camping": ("Tent", "Sleeping Bag", "Stove", "Lantern", "Hammock", "Cooler", "Compass", "Rope"),
    "Bedroom": ("Mattress", "Duvet", "Pillow", "Blanket", "Nightstand", "Mirror", "Curtain", "Rug"),
    "Photography": ("Camera", "Lens", "Tripod", "Flash", "Filter", "Bag", "Album", "Projector"),
    "Pets": ("Kennel", "Leash", "Collar", "Bowl", "Kibble", "Brushing Mitt", "Toy", "Crate"),
    "Sewing": ("Fabric", "Thread", "Needle", "Scissors", "Bobbin", "Zipper", "Button", "Ribbon"),
}
AUDIENCES = ("Everyday", "Travel", "Junior", "Studio", "Outdoor", "Compact", "Expert", "Vintage")

# A collection is a look that runs through all leaves; each has its own four words.
COLLECTIONS: dict[str, tuple[str, str, str, str]] = {
    "Aurora": ("glacial", "shimmering", "violet", "nordic"),
    "Cedar": ("wooden", "rustic", "amber", "forest"),
    "Lagoon": ("turquoise", "coastal", "coral", "breezy"),
    "Ember": ("smoky", "copper", "scarlet", "volcanic"),
    "Meadow": ("floral", "lavender", "pastel", "honeyed"),
    "Quartz": ("crystal", "translucent", "faceted", "mineral"),
    "Metro": ("matte", "graphite", "urban", "minimal"),
    "Saffron": ("spiced", "golden", "ornate", "silken"),
    "Tundra": ("woollen", "frosted", "ivory", "alpine"),
    "Orchard": ("fruity", "apple", "crimson", "harvest"),
    "Cosmos": ("starry", "indigo", "orbital", "luminous"),
    "Prairie": ("linen", "wheat", "sunlit", "pioneer"),
    "Monsoon": ("waterproof", "jade", "bamboo", "tropical"),
    "Origami": ("folded", "paper", "crisp", "geometric"),
    "Velvet": ("plush", "burgundy", "opulent", "soft"),
    "Citrus": ("lemon", "zesty", "neon", "fresh"),
}
BRANDS = (
    "Velmora", "Kestrel", "Ondine", "Harrow", "Brightwell", "Tamsin", "Norvik", "Solano",
    "Pemberley", "Zephyrine", "Calder", "Mirabeau", "Oakhurst", "Luminara", "Fjordan", "Castellan",
    "Ravenna", "Thistle", "Wexford", "Yarrow",
)  # fmt: skip
SIZES = ("small", "medium", "large", "slim", "wide", "duo", "refill", "classic")
