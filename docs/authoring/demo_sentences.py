"""Sentences of the demo corpus: a small two-language grammar. Read by make_demo_corpus.

Every pattern yields only combinations that are good in both languages. Many combinations of few
words, so that a tiny model can be asked for combinations it has not seen. Which are taken is
decided by how rare their parts still are, then by a keyed hash: the same lists, the same corpus.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator

from demo_lexicon import (
    APPLE,
    BAG,
    BALL,
    BIRD,
    BOOK,
    BOX,
    CAR,
    CAT,
    CHAIR,
    COAT,
    COAT_COLOURS,
    COLOURS,
    COW,
    CUP,
    DOG,
    DRINKS,
    DUCK,
    EGG,
    FISH,
    FLOWER,
    FOODS,
    GIFTS,
    HABITS,
    HAT,
    HORSE,
    NAMED,
    NUMBERS,
    ON_DAYS,
    PEOPLE,
    PLACES,
    RABBIT,
    SIZES,
    SMALL_THINGS,
    TABLE,
    Pair,
    article,
    pair,
    verb,
    words_en,
    words_zh,
)

SEED = "cslm-demo-1"
NUM_SPOKEN = 172
NUM_WRITTEN = 140


# --- sentence patterns: each yields every combination that is good in both languages ---------


def eating() -> Iterator[Pair]:
    """Tom eats two eggs every morning."""
    foods = [
        (f"{n} {t.plural}", f"{z} {t.cl} {t.zh}") for n, z in NUMBERS[:2] for t in (EGG, APPLE)
    ]
    meals = [("eat", "eats", "吃", *food) for food in (*foods, *FOODS[:4])]
    meals += [("drink", "drinks", "喝", *drink) for drink in DRINKS]
    for who, (base, third, eat_zh, en, zh), (when, when_zh) in itertools.product(
        PEOPLE, meals, HABITS
    ):
        yield pair(
            f"{who.en} {verb(who, base, third)} {en} {when}", f"{who.zh} {when_zh} {eat_zh} {zh}"
        )


def animals_at_play() -> Iterator[Pair]:
    """The black cat is sleeping under the table."""
    indoors = (
        ("under the table", "桌子 下面"),
        ("on the bed", "床 上"),
        ("on the chair", "椅子 上"),
        ("behind the door", "门 后面"),
    )
    outdoors = (
        ("under the tree", "树 下面"),
        ("in the garden", "花园 里"),
        ("behind the house", "房子 后面"),
        ("near the river", "河边"),
    )
    sleeping, playing, running = ("sleeping", "睡觉"), ("playing", "玩"), ("running", "跑步")
    eating_now, singing = ("eating", "吃 东西"), ("singing", "唱歌")
    scenes = [
        *itertools.product((CAT, DOG, RABBIT), (sleeping,), indoors + outdoors),
        *itertools.product((CAT, DOG, RABBIT), (playing,), outdoors),
        *itertools.product((HORSE, COW, DUCK), (sleeping, eating_now), outdoors),
        *itertools.product((HORSE, DOG), (running,), (outdoors[1], outdoors[2], outdoors[3])),
        *itertools.product((BIRD,), (singing,), (*outdoors, ("in the tree", "树 上"))),
    ]
    for (animal, (doing, doing_zh), (where, where_zh)), (colour, colour_zh) in itertools.product(
        scenes, COAT_COLOURS + SIZES
    ):
        if doing == "running":
            doing_zh = "跑"
        yield pair(
            f"the {colour} {animal.en} is {doing} {where}",
            f"那 {animal.cl} {colour_zh} {animal.zh} 正在 {where_zh} {doing_zh}",
        )


def buying() -> Iterator[Pair]:
    """My sister bought a red hat yesterday."""
    whens = (("yesterday", "昨天"), ("last week", "上个 星期"), *ON_DAYS)
    for who, thing, (colour, colour_zh), (when, when_zh) in itertools.product(
        PEOPLE, (*GIFTS, CAR, CHAIR), COLOURS, whens
    ):
        yield pair(
            f"{who.en} bought {article(colour)} {thing.en} {when}",
            f"{who.zh} {when_zh} 买 了 一 {thing.cl} {colour_zh} 的 {thing.zh}",
        )


def counting() -> Iterator[Pair]:
    """There are three birds in the garden."""
    scenes = [
        *itertools.product(
            (CAT, DOG, RABBIT, BIRD, DUCK, HORSE, COW, FLOWER),
            (("in the garden", "花园 里"),),
        ),
        *itertools.product((BIRD, APPLE), (("in the tree", "树 上"),)),
        *itertools.product(
            (BOOK, CUP, APPLE, EGG, FLOWER, BALL),
            (("on the table", "桌子 上"), ("in the box", "盒子 里"), ("in the bag", "包 里")),
        ),
        *itertools.product((CHAIR, TABLE), (("in the kitchen", "厨房 里"),)),
        *itertools.product((CAR,), (("behind the house", "房子 后面"),)),
        *itertools.product((FISH, DUCK), (("in the river", "河 里"),)),
    ]
    for (thing, (where, where_zh)), (number, number_zh) in itertools.product(scenes, NUMBERS):
        if thing is FLOWER and where == "in the bag":
            continue
        if thing in (CHAIR, TABLE, CAR) and number in ("seven", "eight", "nine", "ten"):
            continue
        yield pair(
            f"there are {number} {thing.plural} {where}",
            f"{where_zh} 有 {number_zh} {thing.cl} {thing.zh}",
        )


def placing() -> Iterator[Pair]:
    """The blue cup is on the table."""
    spots = (
        ("on the table", "桌子 上"),
        ("under the chair", "椅子 下面"),
        ("on the bed", "床 上"),
        ("behind the door", "门 后面"),
        ("in the kitchen", "厨房 里"),
        ("in the car", "汽车 里"),
        ("under the bed", "床 下面"),
    )
    for thing, (colour, colour_zh), (where, where_zh) in itertools.product(
        SMALL_THINGS, COLOURS, spots
    ):
        yield pair(
            f"the {colour} {thing.en} is {where}",
            f"{colour_zh} 的 {thing.zh} 在 {where_zh}",
        )


def going() -> Iterator[Pair]:
    """We will go to the park tomorrow."""
    whens = (
        ("tomorrow", "明天"),
        ("this evening", "今天 晚上"),
        ("next week", "下个 星期"),
        *ON_DAYS,
    )
    for who, (place, place_zh), (when, when_zh) in itertools.product(PEOPLE, PLACES, whens):
        yield pair(
            f"{who.en} will go to the {place} {when}", f"{who.zh} {when_zh} 要 去 {place_zh}"
        )


def doing() -> Iterator[Pair]:
    """My mother is cooking in the kitchen."""
    at_home, garden = ("at home", "家 里"), ("in the garden", "花园 里")
    park, library = ("in the park", "公园 里"), ("in the library", "图书馆 里")
    kitchen, school = ("in the kitchen", "厨房 里"), ("at school", "学校 里")
    scenes = [
        *itertools.product((("reading a book", "看 书"),), (at_home, garden, park, library)),
        *itertools.product((("cooking", "做饭"),), (at_home, kitchen)),
        *itertools.product((("working", "工作"),), (at_home, garden, library, school)),
        *itertools.product((("singing", "唱歌"),), (at_home, garden, park, school, kitchen)),
        *itertools.product((("sleeping", "睡觉"),), (at_home, garden)),
        *itertools.product((("running", "跑步"),), (park,)),
        *itertools.product((("drinking tea", "喝 茶"),), (at_home, kitchen, garden)),
    ]
    for who, ((act, act_zh), (where, where_zh)) in itertools.product(PEOPLE, scenes):
        yield pair(f"{who.en} {who.be} {act} {where}", f"{who.zh} 正在 {where_zh} {act_zh}")


def liking() -> Iterator[Pair]:
    """Anna likes red flowers; Tom does not like milk."""
    for who, thing, (colour, colour_zh) in itertools.product(
        PEOPLE, (FLOWER, HAT, CAR, BAG, COAT), COLOURS
    ):
        yield pair(
            f"{who.en} {verb(who, 'like', 'likes')} {colour} {thing.plural}",
            f"{who.zh} 喜欢 {colour_zh} 的 {thing.zh}",
        )


def disliking() -> Iterator[Pair]:
    """Tom does not like to drink milk."""
    meals = [("eat", "吃", *f) for f in FOODS] + [("drink", "喝", *d) for d in DRINKS]
    for who, (act, act_zh, en, zh) in itertools.product(PEOPLE, meals):
        yield pair(
            f"{who.en} {verb(who, 'do', 'does')} not like to {act} {en}",
            f"{who.zh} 不 喜欢 {act_zh} {zh}",
        )


def wanting() -> Iterator[Pair]:
    """I want to buy a new coat."""
    for who, thing, (adjective, adjective_zh) in itertools.product(
        PEOPLE,
        (*GIFTS, CAR, TABLE, CHAIR),
        (("new", "新"), ("big", "大"), ("small", "小")),
    ):
        if (thing is COAT and adjective != "new") or (thing is FLOWER and adjective == "new"):
            continue
        yield pair(
            f"{who.en} {verb(who, 'want', 'wants')} to buy {article(adjective)} {thing.en}",
            f"{who.zh} 想 买 一 {thing.cl} {adjective_zh} {thing.zh}",
        )


def having() -> Iterator[Pair]:
    """He has a big dog and two small birds."""
    pets = (CAT, DOG, RABBIT, BIRD, DUCK, HORSE)
    for who, one, many, (size, size_zh), (colour, colour_zh), (n, n_zh) in itertools.product(
        PEOPLE, pets, pets, SIZES, COAT_COLOURS, NUMBERS[:4]
    ):
        if one is many:
            continue
        yield pair(
            f"{who.en} {verb(who, 'have', 'has')} a {size} {one.en} and {n} {colour} {many.plural}",
            f"{who.zh} 有 一 {one.cl} {size_zh} {one.zh} 和 {n_zh} {many.cl} {colour_zh} {many.zh}",
        )


def weather() -> Iterator[Pair]:
    """The weather was very cold yesterday."""
    whens = (
        ("was", "yesterday", "昨天"),
        ("is", "today", "今天"),
        ("will be", "tomorrow", "明天"),
        *(("will be", en, zh) for en, zh in ON_DAYS),
    )
    kinds = (("hot", "热"), ("cold", "冷"), ("good", "好"), ("bad", "不好"))
    for (be, when, when_zh), (kind, kind_zh) in itertools.product(whens, kinds):
        forecast = "会 很" if be == "will be" else "很"
        very = "very " if kind in ("hot", "cold") else ""
        if kind == "bad":
            forecast = "会" if be == "will be" else ""
        yield pair(
            f"the weather {be} {very}{kind} {when}",
            " ".join(f"{when_zh} 天气 {forecast} {kind_zh}".split()),
        )


def finding() -> Iterator[Pair]:
    """The school is near the hospital."""
    buildings = PLACES[:-1]
    for (a, a_zh), (b, b_zh), (where, where_zh) in itertools.product(
        buildings, buildings, (("near", "附近"), ("behind", "后面"))
    ):
        if a != b:
            yield pair(f"the {a} is {where} the {b}", f"{a_zh} 在 {b_zh} {where_zh}")


def comparing() -> Iterator[Pair]:
    """The red box is bigger than the blue box."""
    kinds = (("bigger", "大"), ("smaller", "小"), ("newer", "新"))
    for thing, (a, a_zh), (b, b_zh), (kind, kind_zh) in itertools.product(
        (BOX, BALL, BAG, CAR, CUP, HAT), COLOURS, COLOURS, kinds
    ):
        if a != b:
            yield pair(
                f"the {a} {thing.en} is {kind} than the {b} {thing.en}",
                f"{a_zh} 的 {thing.zh} 比 {b_zh} 的 {thing.zh} {kind_zh}",
            )


def giving() -> Iterator[Pair]:
    """The teacher gave Anna three new books."""
    for who, whom, thing, (n, n_zh) in itertools.product(
        NAMED, NAMED, (BOOK, CUP, FLOWER, APPLE, EGG, BALL), NUMBERS
    ):
        kin = who.en.startswith("my") and whom.en.startswith("my")
        if who is not whom and not kin:
            yield pair(
                f"{who.en} gave {whom.en} {n} {thing.plural}",
                f"{who.zh} 给 了 {whom.zh} {n_zh} {thing.cl} {thing.zh}",
            )


PATTERNS = (
    eating, animals_at_play, buying, counting, placing, going, doing, liking,
    disliking, wanting, having, weather, finding, comparing, giving,
)  # fmt: skip
SHARES = {"weather": 0.8, "finding": 0.7, "liking": 0.8}


def _key(text: str) -> str:
    return hashlib.sha256(f"{SEED}|{text}".encode()).hexdigest()


def _parts(sentence: Pair) -> list[str]:
    """Words of both languages, and what stands next to what in English."""
    en = words_en(sentence.en.lower())
    neighbours = [f"{a} {b}" for a, b in itertools.pairwise(en)]
    return [*en, *words_zh(sentence.zh), *neighbours]


def _rank(sentence: Pair, seen: Counter[str]) -> tuple[float, str]:
    """Rarest parts first, ties by hash."""
    parts = set(_parts(sentence))
    return (-sum(1.0 / (1 + seen[p]) for p in sorted(parts)) / len(parts), _key(sentence.en))


def _choose() -> tuple[list[Pair], list[Pair]]:
    """Spoken and written sentences: patterns in turn, rarest words first, all different."""
    pools = {p.__name__: sorted(p(), key=lambda x: _key(x.en))[:400] for p in PATTERNS}
    debts = dict.fromkeys(pools, 0.0)
    seen: Counter[str] = Counter()
    taken: list[Pair] = []
    used: set[str] = set()
    while len(taken) < NUM_SPOKEN + NUM_WRITTEN:
        for name, pool in pools.items():
            debts[name] += SHARES.get(name, 1.0)
            if debts[name] < 1.0 or not pool:
                continue
            debts[name] -= 1.0
            best = min(pool, key=lambda x: _rank(x, seen))
            pool.remove(best)
            if best.en in used or best.zh in used:
                continue
            used |= {best.en, best.zh}
            seen.update(_parts(best))
            taken.append(best)
    taken = taken[: NUM_SPOKEN + NUM_WRITTEN]
    return taken[:NUM_SPOKEN], taken[NUM_SPOKEN:]


SPOKEN, WRITTEN = _choose()
