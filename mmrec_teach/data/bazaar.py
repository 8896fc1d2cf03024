"""The bazaar: a small generated shop whose truth is known.

How the world works, in the order it is built:

1. **Items.** Each belongs to one category (an *interest*). It has a hue (seen and told), a tone and a pattern (only the
   picture shows them), a spirit and a making (only the caption tells them), a feel (nothing shows it; only buyers know), a
   popularity with a long tail, a launch time. About nine in a hundred are *cold*: launched late, without any training
   interaction.
2. **Users.** Each has one to three interests of uneven share, belongs to a *tribe* that leans to certain tones, patterns,
   spirits, makings and feels, has a will of its own on top, and cares for picture and words to a degree of its own. Tribes
   are the same in every domain: that is the shared taste that can move from one domain to the next.
3. **Visits.** A user comes in sessions. A session starts in one interest and mostly stays there; within it, people shop in
   colour: the next thing tends to share the hue of the last (in the attic, to avoid it). What is taken follows the user's
   liking times the popularity, from what is launched and not yet taken; now and then a user picks outside its interest.
4. **Shop window.** Exposures and clicks come from anonymous passers-by before :data:`CUTOFF`; they are drawn independently
   of who takes what, so they cannot leak a held-out interaction.

Randomness comes from :class:`Dice` (uniform numbers of PCG64 only) and arithmetic on a coarse grid, so that the same seed
gives the same world on every platform.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmrec_teach.data import pictures
from mmrec_teach.data.encode import picture_features, text_features

SEED = 20240229
START = 1_672_531_200  # 2023-01-01 00:00 UTC
DAY = 86_400
DAYS = 730
END = START + DAYS * DAY
CUTOFF = START + DAY * 584
"""End of the shop-window counts (0.8 of the two years); every cold item is launched later."""

MAX_INTERESTS = 3
EXPLORE = 0.06
"""Share of interactions outside all of a user's interests."""
GRID = 256.0
"""Every planted number is a whole multiple of 1/GRID: sums of them are exact, on every machine."""
UTILITY_GRID = 512.0

SPIRITS: dict[str, tuple[str, ...]] = {
    "vintage": ("antique", "retro", "nostalgic", "weathered", "bygone"),
    "playful": ("quirky", "cheerful", "whimsical", "silly", "bouncy"),
    "quiet": ("simple", "uncluttered", "understated", "calm", "serene"),
    "wild": ("adventurous", "untamed", "stormy", "daring", "restless"),
    "romantic": ("dreamy", "tender", "poetic", "moonlit", "wistful"),
    "clever": ("smart", "foldable", "modular", "ingenious", "inventive"),
}
"""Spirit -> the words that tell it. No picture shows a spirit."""

MAKINGS: dict[str, tuple[str, ...]] = {
    "handmade": ("handcrafted", "artisan", "handspun", "homemade"),
    "recycled": ("reclaimed", "upcycled", "salvaged", "compostable"),
    "rugged": ("sturdy", "stormproof", "unbreakable", "hardwearing"),
    "precious": ("gilded", "polished", "jewelled", "lavish"),
    "cosy": ("soft", "woollen", "snug", "padded"),
}
"""Making -> the words that tell it."""

NOUNS: dict[str, tuple[str, ...]] = {
    "lamp": ("lamp", "light", "shade"),
    "rug": ("rug", "carpet", "mat"),
    "mug": ("mug", "cup", "beaker"),
    "kite": ("kite", "flyer", "glider"),
    "boots": ("boot", "wellington", "galosh"),
    "plant": ("plant", "succulent", "houseplant"),
    "clock": ("clock", "alarm", "timepiece"),
    "teapot": ("teapot", "kettle", "brewer"),
    "backpack": ("backpack", "rucksack", "bag"),
    "umbrella": ("umbrella", "brolly", "parasol"),
    "guitar": ("guitar", "ukulele", "banjo"),
    "armchair": ("armchair", "seat", "recliner"),
    "watering can": ("sprinkler", "waterer", "can"),
    "birdhouse": ("birdhouse", "nestbox", "aviary"),
    "lantern": ("lantern", "candlelight", "nightlight"),
    "gnome": ("gnome", "dwarf", "statuette"),
    "toadstool": ("toadstool", "mushroom", "stool"),
    "bowl": ("bowl", "dish", "basin"),
    "pan": ("pan", "skillet", "fryer"),
    "bottle": ("bottle", "flask", "carafe"),
    "apron": ("apron", "pinafore", "smock"),
    "jar": ("jar", "canister", "tin"),
    "robot": ("robot", "android", "automaton"),
    "boat": ("boat", "sailboat", "dinghy"),
    "rocket": ("rocket", "spaceship", "shuttle"),
    "bear": ("bear", "teddy", "cub"),
    "drum": ("drum", "tambour", "bongo"),
}
"""Category -> the nouns its captions use."""

NAMES: tuple[str, ...] = tuple(
    word
    for row in (
        "Juniper Otter Comet Saffron Pebble Marigold Thistle Biscuit Clover Ember",
        "Fable Gingko Harbour Indigo Jigsaw Kestrel Linden Magpie Nutmeg Orchard",
        "Puffin Quill Ripple Sparrow Tundra Umber Velvet Willow Yonder Zephyr",
        "Acorn Bramble Cricket Dune Echo Fern Glimmer Heron Iris Jubilee",
        "Koala Lagoon Meadow Nimbus Opal Pepper Quartz Robin Sorrel Tango",
    )
    for word in row.split()
)
"""Words for titles; they mean nothing and say nothing about taste."""

FILLERS: tuple[str, ...] = (
    "ships in two days",
    "free returns",
    "gift wrap available",
    "weekly offer",
    "picked up at the counter",
    "limited edition",
    "comes with a card",
    "new stock on monday",
    "ask at the stall",
    "rated by visitors",
    "while supplies last",
    "bundle price on request",
)
"""Shop talk: words that say nothing about taste."""


@dataclass(frozen=True)
class Domain:
    """What one corner of the bazaar is like.

    Attributes:
        name: as in ``load(name)``.
        prefix: of its user ids.
        categories: category -> number of items.
        n_users: users.
        stay: chance that the next item of a session stays in its interest.
        hue_pull: how much the last item's hue adds to (or takes from) the liking of things of that hue.
        taste: how strongly style decides.
    """

    name: str
    prefix: str
    categories: dict[str, int]
    n_users: int
    stay: float = 0.85
    hue_pull: float = 1.25
    taste: float = 1.4


DOMAINS: dict[str, Domain] = {
    d.name: d
    for d in (
        Domain(
            "bazaar",
            "v",
            dict(zip(list(NOUNS)[:12], (58, 46, 62, 44, 52, 56, 42, 48, 54, 40, 46, 52))),
            1200,
        ),
        Domain("bazaar/garden", "g", dict(zip(list(NOUNS)[12:17], (46, 38, 44, 40, 42))), 400),
        Domain("bazaar/kitchen", "k", dict(zip(list(NOUNS)[17:22], (44, 42, 46, 36, 42))), 400),
        # Collectors in the attic avoid repeating themselves: what was learned elsewhere about the next colour is wrong here.
        Domain(
            "bazaar/attic", "a", dict(zip(list(NOUNS)[22:27], (44, 38, 42, 46, 40))), 400, stay=0.2, hue_pull=-2.0, taste=1.2
        ),
    )
}
"""The domains, main one first."""

N_TRIBES = 8
N_FEELS = 8
HUES, TONES = tuple(pictures.HUES), tuple(pictures.TONES)
PATTERNS = pictures.PATTERNS
FACTORS: dict[str, int] = {
    "tone": len(TONES),
    "pattern": len(PATTERNS),
    "spirit": len(SPIRITS),
    "making": len(MAKINGS),
    "feel": N_FEELS,
}
"""Taste factor -> number of values. Tone and pattern: picture only; spirit and making: words only; feel: neither."""

STRENGTH = {"tone": 1.25, "pattern": 1.0, "spirit": 1.25, "making": 1.0, "feel": 0.6}
POPULARITY_SPREAD = 0.6
COLD_BOOST = 0.9
COLD_PER_CATEGORY = 0.09
FEATURE_DIM = 64


class Dice:
    """Random numbers that are the same on every platform: only uniform doubles of PCG64 and simple arithmetic."""

    def __init__(self, seed: int, *stream: int):
        self._rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *stream])))

    def uniform(self, *shape: int) -> np.ndarray:
        """Uniform numbers in [0, 1)."""
        return self._rng.random(shape)

    def normal(self, *shape: int) -> np.ndarray:
        """Nearly normal numbers (sum of twelve uniforms, minus six), rounded to the grid."""
        total = np.zeros(shape)
        for _ in range(12):
            total = total + self._rng.random(shape)
        return on_grid(total - 6.0)

    def below(self, n: int, *shape: int) -> np.ndarray:
        """Whole numbers 0 .. n-1."""
        return (self._rng.random(shape) * n).astype(np.int64)

    def order(self, n: int) -> np.ndarray:
        """A random permutation of 0 .. n-1."""
        return np.argsort(self._rng.random(n), kind="stable")

    def pick(self, weights: np.ndarray) -> int:
        """An index, drawn in proportion to non-negative whole-number ``weights`` (at least one positive)."""
        running = np.cumsum(weights)
        return int(np.searchsorted(running, int(self._rng.random() * int(running[-1])), side="right"))


def on_grid(x: np.ndarray) -> np.ndarray:
    """Round to multiples of 1/GRID."""
    return np.floor(np.asarray(x) * GRID + 0.5) / GRID


# -- items ----------------------------------------------------------------------------------------------------------------
def _make_items(domain: Domain, seed: int, stream: int) -> dict[str, np.ndarray]:
    dice = Dice(seed, stream, 1)
    names = list(domain.categories)
    category = np.repeat(np.arange(len(names)), list(domain.categories.values()))
    category = category[dice.order(len(category))]  # an index says nothing about the category
    n = len(category)
    items: dict[str, np.ndarray] = {"category": category, "hue": dice.below(len(HUES), n)}
    for factor, size in FACTORS.items():
        # As even as possible within a category, so that style can never stand in for category.
        values = np.empty(n, dtype=np.int64)
        for c in range(len(names)):
            rows = np.flatnonzero(category == c)
            values[rows] = ((np.arange(len(rows)) + dice.below(size)) % size)[dice.order(len(rows))]
        items[factor] = values
    items["log_popularity"] = on_grid(POPULARITY_SPREAD * dice.normal(n))

    # Launches: most things were there at the start, some came during the first 70 %, the cold ones after the cutoff.
    late, when = dice.uniform(n), dice.uniform(n)
    launched = np.where(late < 0.6, START, START + np.floor(when * 0.7 * DAYS) * DAY).astype(np.int64)
    cold = np.zeros(n, dtype=bool)
    for c in range(len(names)):
        rows = np.flatnonzero(category == c)
        cold[rows[dice.order(len(rows))[: int(np.floor(COLD_PER_CATEGORY * len(rows) + 0.5))]]] = True
    launched[cold] = CUTOFF + np.floor(dice.uniform(n)[cold] * 100).astype(np.int64) * DAY
    items["launched"], items["cold"] = launched, cold
    items["log_popularity"][cold] = on_grid(0.5 * items["log_popularity"][cold])  # too short a time to become a star or a dud
    items["price"] = np.floor(400 * (1 + dice.uniform(n)) * (1 + 3 * dice.uniform(n) ** 2)).astype(np.int64)  # cents

    # A few pictures and captions are lost, never both of one item.
    fate = dice.uniform(n)
    items["missing_image"] = fate < 0.04
    items["missing_caption"] = fate > 0.97
    return items


def _draw(domain: Domain, items: dict[str, np.ndarray], seed: int, stream: int) -> np.ndarray:
    dice = Dice(seed, stream, 2)
    n = len(items["category"])
    numbers = dice.uniform(n, 12)
    names = list(domain.categories)
    images = np.zeros((n, pictures.SIZE, pictures.SIZE, 3), dtype=np.uint8)
    for k in np.flatnonzero(~items["missing_image"]):
        v = [float(x) for x in numbers[k]]
        images[k] = pictures.draw(
            pictures.Look(
                names[items["category"][k]],
                HUES[items["hue"][k]],
                TONES[items["tone"][k]],
                PATTERNS[items["pattern"][k]],
                (v[0], v[1], v[2], v[3]),
                (v[4], v[5], v[6], v[7]),
                (v[8], v[9], v[10], v[11]),
            )
        )
    return images


def _write(domain: Domain, items: dict[str, np.ndarray], seed: int, stream: int) -> tuple[list[str], list[str]]:
    """Compose a title and a caption for every item."""
    dice = Dice(seed, stream, 3)
    n = len(items["category"])
    names, spirits, makings = list(domain.categories), list(SPIRITS.values()), list(MAKINGS.values())
    titles, captions = [], []
    for k in range(n):
        category = names[items["category"][k]]
        nouns = [NOUNS[category][j] for j in dice.order(3)]
        s1, s2, s3 = (spirits[items["spirit"][k]][j] for j in dice.order(5)[:3])
        m1, m2 = (makings[items["making"][k]][j] for j in dice.order(4)[:2])
        f1, f2 = (FILLERS[j] for j in dice.order(len(FILLERS))[:2])
        hue = HUES[items["hue"][k]] if dice.uniform() < 0.85 else ""  # now and then the writer forgets the colour
        thing = f"{hue} {nouns[0]}".strip()
        text = (
            f"{_a(s1)} {thing}, {m1} and {m2}. {_up(s2)}, {s3} {nouns[1]}; {f1}, {f2}.",
            f"{_up(m1)} {thing} with {_a(s1).lower()}, {s2}, {s3} soul. {_up(m2)}; {f1}.",
            f"{_up(f1)}: {m1} {thing}, {s1}, {s2} and {s3}, {_a(m2).lower()} {nouns[1]}, {f2}.",
            f"{_up(s1)}, {s2}, {s3}: {_a(m1).lower()}, {m2} {thing}. {_up(f1)}.",
            f"{_a(m1)} {thing} for {s1} days and {s2} evenings. {_up(m2)}, {s3} {nouns[1]}, {f1}, {f2}.",
        )[int(dice.below(5))]
        captions.append("" if items["missing_caption"][k] else text)
        titles.append(f"{NAMES[int(dice.below(len(NAMES)))]} {category}")
    return titles, captions


def _a(word: str) -> str:
    return f"{'An' if word[0] in 'aeiou' else 'A'} {word}"


def _up(words: str) -> str:
    return words[0].upper() + words[1:]


# -- users ----------------------------------------------------------------------------------------------------------------
def _make_tribes(seed: int) -> dict[str, np.ndarray]:
    dice = Dice(seed, 0)
    return {factor: dice.normal(N_TRIBES, size) for factor, size in FACTORS.items()}


def _make_users(domain: Domain, tribes: dict[str, np.ndarray], seed: int, stream: int) -> dict[str, np.ndarray]:
    dice = Dice(seed, stream, 4)
    n, n_categories = domain.n_users, len(domain.categories)
    tribe = dice.below(N_TRIBES, n)
    leaning = 0.6 * dice.normal(N_TRIBES, n_categories)  # a tribe's mild preference among this domain's categories
    how_many = 1 + (dice.uniform(n) > 0.25) + (dice.uniform(n) > 0.60)
    interests = np.full((n, MAX_INTERESTS), -1, dtype=np.int64)
    shares = np.zeros((n, MAX_INTERESTS))
    uneven = np.array([[1.0, 0.0, 0.0], [0.68, 0.32, 0.0], [0.54, 0.30, 0.16]])
    wobble = dice.uniform(n) * 0.12
    draws = dice.normal(n, n_categories)
    for u in range(n):
        k = int(how_many[u])
        interests[u, :k] = np.argsort(-(draws[u] + leaning[tribe[u]]), kind="stable")[:k]
        shares[u] = uneven[k - 1]
        if k > 1:
            shares[u, 0] += wobble[u]
            shares[u, k - 1] -= wobble[u]
    care = on_grid(0.08 + 0.84 * dice.uniform(n))
    users: dict[str, np.ndarray] = {
        "tribe": tribe,
        "interests": interests,
        "shares": on_grid(shares),
        "care": np.stack([care, 1.0 - care], axis=1),
    }
    for factor, size in FACTORS.items():
        users[factor] = on_grid(tribes[factor][tribe] + 0.4 * dice.normal(n, size))
    users["joined"] = (START + np.floor(dice.uniform(n) * 0.7 * DAYS) * DAY).astype(np.int64)
    users["appetite"] = 5 + np.floor(3.7 * np.exp(0.85 * dice.normal(n))).astype(np.int64)
    users["appetite"] = np.minimum(users["appetite"], 60)
    return users


def _liking(domain: Domain, users: dict[str, np.ndarray], items: dict[str, np.ndarray]) -> np.ndarray:
    """(U, I) how much each user likes each item's style, interests and popularity left out. Exact: sums on a grid."""

    def part(*factors: str) -> np.ndarray:
        return sum(STRENGTH[f] * users[f][:, items[f]] for f in factors)

    care = users["care"]
    # 1.6 x care^2 + 0.2: someone who minds pictures hardly reads, and the other way round.
    weight = 1.6 * care * care + 0.2
    liking = weight[:, :1] * part("tone", "pattern") + weight[:, 1:] * part("spirit", "making") + part("feel")
    return on_grid(domain.taste * liking)


def _utility(domain: Domain, users: dict[str, np.ndarray], items: dict[str, np.ndarray], liking: np.ndarray) -> np.ndarray:
    """(U, I) log chance that the user takes the item if all were equally popular: interest, then liking within it."""
    n_categories = len(domain.categories)
    n_users = len(liking)
    interest = np.full((n_users, n_categories), EXPLORE / n_categories)
    for slot in range(MAX_INTERESTS):
        rows = np.flatnonzero(users["interests"][:, slot] >= 0)
        interest[rows, users["interests"][rows, slot]] += (1 - EXPLORE) * users["shares"][rows, slot]
    weights = np.exp(liking)
    utility = np.empty_like(liking)
    for c in range(n_categories):
        columns = np.flatnonzero(items["category"] == c)
        inside = weights[:, columns].sum(axis=1)
        utility[:, columns] = np.log(interest[:, c] / inside)[:, None] + liking[:, columns]
    return np.floor(utility * UTILITY_GRID + 0.5).astype(np.int16)


# -- visits ---------------------------------------------------------------------------------------------------------------
def _visit(
    domain: Domain, users: dict[str, np.ndarray], items: dict[str, np.ndarray], liking: np.ndarray, seed: int, stream: int
) -> dict[str, np.ndarray]:
    """Let every user visit the shop. Returns events sorted by user, then time."""
    n_users, n_items = liking.shape
    category, hue, launched, cold = items["category"], items["hue"], items["launched"], items["cold"]
    weights = np.exp(liking + items["log_popularity"] + COLD_BOOST * cold)
    pull = float(np.exp(domain.hue_pull))
    rows: list[tuple[int, int, int, int, int]] = []  # user, item, time, session, interest (-1: explored)
    taken = np.zeros((n_users, n_items), dtype=bool)
    session = 0
    for u in range(n_users):
        dice = Dice(seed, stream, 5, u)
        wanted, warm = int(users["appetite"][u]), 0
        k = int((users["interests"][u] >= 0).sum())
        share = np.floor(users["shares"][u, :k] * GRID).astype(np.int64)
        sizes = []
        while sum(sizes) < wanted:
            sizes.append(1 + int(dice.below(5)))
        joined = int(users["joined"][u])
        days = np.sort(np.floor(dice.uniform(len(sizes)) * ((END - joined) / DAY - 8)).astype(np.int64))
        days = np.concatenate([days, days[-1] + 1 + np.arange(4)])  # for those whose warm history is still too short
        n_taken = 0
        for day, size in zip(days, [*sizes, 3, 3, 3, 3]):
            if n_taken >= wanted and warm >= 5:
                break
            now = joined + int(day) * DAY + 8 * 3600 + int(dice.below(12 * 3600))
            open_now = (launched <= now) & ~taken[u]
            interest, last_hue, started = -1, -1, False
            for _ in range(size):
                if interest < 0 or dice.uniform() >= domain.stay:
                    interest = int(users["interests"][u, dice.pick(share)])
                explored = bool(dice.uniform() < EXPLORE)
                allowed = open_now & (category != interest) if explored else open_now & (category == interest)
                if n_taken >= wanted:  # only topping up: cold items do not count as a history
                    allowed = allowed & ~cold
                w = np.where(allowed, weights[u], 0.0)
                if last_hue >= 0:
                    w = np.where(hue == last_hue, w * pull, w)
                whole = np.floor(w * 65536.0).astype(np.int64)
                if not whole.any():
                    continue
                item = dice.pick(whole)
                rows.append((u, item, now, session, -1 if explored else interest))
                started = True
                taken[u, item], open_now[item] = True, False
                n_taken, warm = n_taken + 1, warm + (not cold[item])
                last_hue = int(hue[item])
                now += 60 + int(dice.below(900))
            session += started
    table = np.array(rows, dtype=np.int64)

    # Nothing is forgotten: an item that fewer than three people took is handed to those who would have liked it most.
    counts = np.bincount(table[:, 1], minlength=n_items)
    extra = []
    for item in np.flatnonzero(counts < 3):
        needed = 3 - int(counts[item])
        for u in np.argsort(-liking[:, item], kind="stable"):
            mine = table[(table[:, 0] == u) & (table[:, 2] >= launched[item])]
            fits = len(mine) and category[item] in users["interests"][u]
            if fits and not taken[u, item] and not any(e[0] == u for e in extra):
                at = mine[len(mine) // 2]
                extra.append((int(u), int(item), int(at[2]) + 20, int(at[3]), int(category[item])))
                taken[u, item] = True
                needed -= 1
                if not needed:
                    break
    if extra:
        table = np.concatenate([table, np.array(extra, dtype=np.int64)])
    table = table[np.lexsort((table[:, 1], table[:, 2], table[:, 0]))]
    return dict(zip(("user", "item", "time", "session", "interest"), np.ascontiguousarray(table.T)))


def default_split(users: np.ndarray, items: np.ndarray, cold: np.ndarray, seed: int) -> np.ndarray:
    """Split each user's warm interactions at random, about 80/10/10; cold items only in valid and test.

    Args:
        users, items: (n,) the interactions.
        cold: (I,) bool, items that training must not see.
        seed: whole number.

    Returns:
        (n,) int8: 0 train, 1 valid, 2 test. Of a user's w warm interactions, max(1, round(w / 10)) are for valid and as
        many for test (w >= 3; else all train). Every warm item keeps a training interaction.
    """
    dice = Dice(seed, 99)
    split = np.zeros(len(users), dtype=np.int8)
    shuffled = dice.order(len(users))
    is_cold = cold[items]
    warm = shuffled[~is_cold[shuffled]]
    warm = warm[np.argsort(users[warm], kind="stable")]
    for rows in np.split(warm, np.flatnonzero(np.diff(users[warm])) + 1):
        if len(rows) >= 3:
            held = max(1, int(len(rows) / 10 + 0.5))
            split[rows[:held]], split[rows[held : 2 * held]] = 1, 2
    rows = shuffled[is_cold[shuffled]]
    split[rows[: len(rows) // 2]], split[rows[len(rows) // 2 :]] = 1, 2
    # A warm item without a training interaction swaps places with a common item of the same user.
    counts = np.bincount(items[split == 0], minlength=len(cold))
    for item in np.flatnonzero((counts == 0) & ~cold):
        for row in np.flatnonzero(items == item):
            others = np.flatnonzero((users == users[row]) & (split == 0))
            others = others[counts[items[others]] > 1]
            if len(others):
                other = others[np.argmax(counts[items[others]])]
                split[row], split[other] = 0, split[row]
                counts[item] += 1
                counts[items[other]] -= 1
                break
    return split


def _window(items: dict[str, np.ndarray], seed: int, stream: int) -> tuple[np.ndarray, np.ndarray]:
    """Exposures and clicks by passers-by before the cutoff; nothing launched later was ever in the window."""
    dice = Dice(seed, stream, 6)
    n = len(items["category"])
    days = np.maximum(CUTOFF - items["launched"], 0) / DAY
    placed = np.exp(0.7 * items["log_popularity"] + 0.5 * dice.normal(n))
    exposures = np.floor(3.0 * days * placed).astype(np.int64)
    rate = np.clip(0.05 * np.exp(0.5 * items["log_popularity"] + 0.3 * dice.normal(n)), 0.002, 0.4)
    clicks = np.floor(exposures * rate + np.sqrt(exposures * rate * (1 - rate)) * dice.normal(n) + 0.5)
    return exposures, np.clip(clicks, 0, exposures).astype(np.int64)


# -- everything -----------------------------------------------------------------------------------------------------------
def generate(seed: int = SEED) -> dict[str, dict[str, np.ndarray]]:
    """Generate all domains.

    Pictures and captions of all domains are encoded together, so that features mean the same everywhere.

    Args:
        seed: whole number; the stored files come from :data:`SEED`.

    Returns:
        domain name -> array name -> array, as :mod:`mmrec_teach.data.store` keeps them. Text is a UTF-8 byte array with
        one line an item. Takes about 20 s on one core.
    """
    tribes = _make_tribes(seed)
    made: dict[str, dict[str, np.ndarray]] = {}
    images, captions = {}, {}
    for stream, domain in enumerate(DOMAINS.values(), start=1):
        items = _make_items(domain, seed, stream)
        users = _make_users(domain, tribes, seed, stream)
        images[domain.name] = _draw(domain, items, seed, stream)
        titles, captions[domain.name] = _write(domain, items, seed, stream)
        liking = _liking(domain, users, items)
        events = _visit(domain, users, items, liking, seed, stream)
        exposures, clicks = _window(items, seed, stream)
        names = list(domain.categories)
        seen = dict.fromkeys(names, 0)
        item_ids = []
        for c in items["category"]:
            seen[names[c]] += 1
            item_ids.append(f"{names[c].replace(' ', '-')}-{seen[names[c]]:03d}")
        made[domain.name] = {
            "user_ids": lines(f"{domain.prefix}{u + 1:04d}" for u in range(domain.n_users)),
            "item_ids": lines(item_ids),
            "titles": lines(titles),
            "captions": lines(captions[domain.name]),
            "category_names": lines(names),
            "event_user": events["user"].astype(np.int32),
            "event_item": events["item"].astype(np.int32),
            "event_time": events["time"],
            "event_session": events["session"].astype(np.int32),
            "event_interest": events["interest"].astype(np.int8),
            "event_split": default_split(events["user"], events["item"], items["cold"], seed),
            "images": images[domain.name],
            "missing_image": items["missing_image"],
            "missing_caption": items["missing_caption"],
            "exposures": exposures,
            "clicks": clicks,
            "launched": items["launched"],
            "price": items["price"],
            "cold": items["cold"],
            "category": items["category"].astype(np.int8),
            "hue": items["hue"].astype(np.int8),
            **{f: items[f].astype(np.int8) for f in FACTORS},
            "log_popularity": items["log_popularity"].astype(np.float32),
            "tribe": users["tribe"].astype(np.int8),
            "interests": users["interests"].astype(np.int8),
            "shares": users["shares"].astype(np.float32),
            "care": users["care"].astype(np.float32),
            **{f"taste_{f}": users[f].astype(np.float32) for f in FACTORS},
            "joined": users["joined"],
            "utility": _utility(domain, users, items, liking),
        }
    for kind, table in _encode(made, images, captions).items():
        start = 0
        for arrays in made.values():
            n = len(arrays["category"])
            arrays[f"features_{kind}"] = table[start : start + n]
            start += n
    return made


def _encode(made: dict, images: dict[str, np.ndarray], captions: dict[str, list[str]]) -> dict[str, np.ndarray]:
    lost = np.concatenate([m["missing_image"] for m in made.values()])
    texts = [text for part in captions.values() for text in part]
    return {
        "image": picture_features(np.concatenate(list(images.values())), lost, FEATURE_DIM),
        "text": text_features(texts, None, FEATURE_DIM),
    }


def lines(texts) -> np.ndarray:
    """Pack strings into one UTF-8 byte array, a line each (no string may hold a line end)."""
    return np.frombuffer("\n".join(texts).encode("utf-8"), dtype=np.uint8)


def unpack(array: np.ndarray) -> list[str]:
    """Undo :func:`lines`."""
    return array.tobytes().decode("utf-8").split("\n")
