"""Questions with answers, and instructions, of the demo corpus. Read by make_demo_corpus.

Written for this project, CC0-1.0, with the words of the sentences. Answers are long enough to be
cut into several chunks.
"""

from __future__ import annotations

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
    COLOURS,
    COUNT_EN,
    COUNT_ZH,
    COW,
    CUP,
    DAYS,
    DOG,
    DRINKS,
    DUCK,
    FISH,
    FLOWER,
    FOODS,
    HAT,
    HORSE,
    ON_DAYS,
    RABBIT,
    TABLE,
    Exchange,
    Pair,
    article,
    capital,
)

# --- spoken questions and answers -----------------------------------------------------------


def _exchange(q_en: str, q_zh: str, a_en: str, a_zh: str) -> Exchange:
    return Exchange(question=Pair(en=q_en, zh=q_zh), answer=Pair(en=a_en, zh=a_zh))


def _sums() -> Iterator[Exchange]:
    for a, b in ((2, 3), (4, 2), (1, 6), (5, 4), (3, 3), (7, 1)):
        x, y, s = COUNT_EN[a], COUNT_EN[b], COUNT_EN[a + b]
        x_zh, y_zh, s_zh = COUNT_ZH[a], COUNT_ZH[b], COUNT_ZH[a + b]
        yield _exchange(
            f"What is {x} plus {y}?",
            f"{x_zh} 加 {y_zh} 等于 几？",
            f"{capital(x)} plus {y} is {s}, because {x} and {y} make {s}.",
            f"{x_zh} 加 {y_zh} 等于 {s_zh}，因为 {x_zh} 和 {y_zh} 一共 是 {s_zh}。",
        )


def _days() -> Iterator[Exchange]:
    for i in (0, 1, 2, 4, 5, 6):
        (a, a_zh), (b, b_zh), (c, c_zh) = (DAYS[(i + k) % 7] for k in range(3))
        yield _exchange(
            f"What day comes after {a}?",
            f"{a_zh} 的 后 一天 是 星期几？",
            f"The day after {a} is {b}, and then comes {c}.",
            f"{a_zh} 的 后 一天 是 {b_zh}，再 后 一天 是 {c_zh}。",
        )


def _colours() -> Iterator[Exchange]:
    spots = {
        "table": ("on the table in the kitchen", "厨房 的 桌子 上"),
        "bed": ("on the bed in the house", "房子 里 的 床 上"),
        "tree": ("under the tree in the garden", "花园 的 树 下面"),
        "chair": ("on the chair in the library", "图书馆 的 椅子 上"),
    }
    for thing, colour, spot in (
        (APPLE, 0, "table"), (BALL, 3, "tree"), (HAT, 4, "chair"),
        (CUP, 5, "table"), (BAG, 1, "bed"), (BOOK, 2, "chair"),
    ):  # fmt: skip
        (en, zh), (where, where_zh) = COLOURS[colour], spots[spot]
        yield _exchange(
            f"What colour is the {thing.en}?",
            f"{thing.zh} 是 什么 颜色 的？",
            f"The {thing.en} is {en}, and it is {where}.",
            f"{thing.zh} 是 {zh} 的，它 在 {where_zh}。",
        )


def _places() -> Iterator[Exchange]:
    for colour, zh, animal, where, where_zh, act, act_zh in (
        ("black", "黑", CAT, "in the garden", "花园 里", "sleeping under the tree", "树 下面 睡觉"),
        ("white", "白", DOG, "in the house", "房子 里", "sleeping on the bed", "床 上 睡觉"),
        ("big", "大", HORSE, "near the river", "河边", "eating under the tree", "树 下面 吃 东西"),
        ("small", "小", BIRD, "behind the house", "房子 后面", "singing in the tree", "树 上 唱歌"),
        ("white", "白", RABBIT, "in the kitchen", "厨房 里", "eating under the table",
         "桌子 下面 吃 东西"),
        ("black", "黑", COW, "behind the house", "房子 后面", "sleeping near the river",
         "河边 睡觉"),
    ):  # fmt: skip
        name, name_zh = f"{colour} {animal.en}", f"{zh} {animal.zh}"
        yield _exchange(
            f"Where is the {name}?",
            f"那 {animal.cl} {name_zh} 在 哪里？",
            f"The {name} is {where}, and it is {act}.",
            f"那 {animal.cl} {name_zh} 在 {where_zh}，它 正在 {act_zh}。",
        )


def _meals() -> Iterator[Exchange]:
    for who, who_zh, he, he_zh, first, second, drink in (
        ("Tom", "汤姆", "he", "他", 0, 4, 2),
        ("Anna", "安娜", "she", "她", 1, 3, 0),
        ("my brother", "我 哥哥", "he", "他", 2, 4, 1),
        ("the teacher", "老师", "she", "她", 0, 5, 3),
        ("the girl", "那个 女孩", "she", "她", 6, 5, 4),
    ):
        (a, a_zh), (b, b_zh), (d, d_zh) = FOODS[first], FOODS[second], DRINKS[drink]
        asked = {"my brother": ("your brother", "你 哥哥")}.get(who, (who, who_zh))
        yield _exchange(
            f"What does {asked[0]} eat every morning?",
            f"{asked[1]} 每天 早上 吃 什么？",
            f"Every morning {who} eats {a} and {b}, and {he} drinks {d}.",
            f"{who_zh} 每天 早上 吃 {a_zh} 和 {b_zh}，{he_zh} 还 喝 {d_zh}。",
        )


def _weather() -> Iterator[Exchange]:
    for (when, when_zh), be, kind, kind_zh, plan, plan_zh in (
        (("today", "今天"), "is", "cold", "冷", "read a book at home", "在 家 里 看 书"),
        (("tomorrow", "明天"), "will be", "good", "好", "go to the park", "去 公园"),
        (ON_DAYS[0], "will be", "hot", "热", "go to the river", "去 河边"),
        (ON_DAYS[4], "will be", "cold", "冷", "buy a new coat", "买 一 件 新 大衣"),
        (ON_DAYS[6], "will be", "good", "好", "sing in the garden", "在 花园 里 唱歌"),
    ):
        will = "会 " if be == "will be" else ""
        yield _exchange(
            f"How {'is the weather' if be == 'is' else 'will the weather be'} {when}?",
            f"{when_zh} 天气 怎么样？",
            f"The weather {be} very {kind} {when}, so I will {plan}.",
            f"{when_zh} 天气 {will}很 {kind_zh}，所以 我 要 {plan_zh}。",
        )


def _how_many() -> Iterator[Exchange]:
    for n, thing, m, colour, where, where_zh in (
        (4, BIRD, 2, 0, "in the tree", "树 上"),
        (5, BOOK, 3, 1, "on the table", "桌子 上"),
        (6, CAT, 2, 5, "in the garden", "花园 里"),
        (3, FLOWER, 2, 3, "in the box", "盒子 里"),
        (8, HORSE, 3, 4, "near the river", "河边"),
    ):
        en, zh = COLOURS[colour]
        m_zh = "两" if m == 2 else COUNT_ZH[m]
        yield _exchange(
            f"How many {thing.plural} are there {where}?",
            f"{where_zh} 有 几 {thing.cl} {thing.zh}？",
            f"There are {COUNT_EN[n]} {thing.plural} {where}, and {COUNT_EN[m]} of them are {en}.",
            f"{where_zh} 有 {COUNT_ZH[n]} {thing.cl} {thing.zh}，"
            f"其中 {m_zh} {thing.cl} 是 {zh} 的。",
        )


def _bigger() -> Iterator[Exchange]:
    for big, small in ((HORSE, DOG), (COW, DUCK), (DOG, BIRD), (HORSE, RABBIT)):
        yield _exchange(
            f"Which animal is bigger, the {small.en} or the {big.en}?",
            f"哪个 动物 更 大，{small.zh} 还是 {big.zh}？",
            f"The {big.en} is bigger than the {small.en}, and it is also faster."
            if big is HORSE
            else f"The {big.en} is bigger than the {small.en}, and it is also stronger.",
            f"{big.zh} 比 {small.zh} 大，而且 它 也 跑 得 更 快。"
            if big is HORSE
            else f"{big.zh} 比 {small.zh} 大，而且 它 也 更 强壮。",
        )


EXCHANGES: list[Exchange] = [
    *_sums(), *_days(), *_colours(), *_places(), *_meals(), *_weather(), *_how_many(), *_bigger(),
]  # fmt: skip


# --- written instructions ---------------------------------------------------------------------

OPPOSITES = (
    ("big", "small"), ("hot", "cold"), ("new", "old"), ("long", "short"), ("fast", "slow"),
    ("happy", "sad"), ("black", "white"), ("good", "bad"), ("day", "night"), ("left", "right"),
    ("up", "down"), ("early", "late"),
)  # fmt: skip
OPPOSITES_ZH = (
    ("大", "小"), ("热", "冷"), ("新", "旧"), ("长", "短"), ("快", "慢"), ("高兴", "难过"),
    ("黑", "白"), ("好", "坏"), ("白天", "晚上"), ("左", "右"), ("上", "下"), ("早", "晚"),
)  # fmt: skip
COUNTS = ((2, 5), (1, 4), (3, 8), (6, 10), (1, 6), (4, 9), (5, 7), (2, 8), (7, 10), (1, 3))
PLUS = ((2, 2), (6, 1), (4, 4), (5, 3), (8, 2), (1, 9), (3, 7), (6, 6), (5, 5), (9, 3))
MINUS = ((5, 2), (9, 4), (6, 3), (10, 7), (8, 6), (7, 5), (4, 1), (9, 8))
NOUNS = (CAT, DOG, BIRD, HORSE, COW, FISH, BOOK, HAT, BOX, CAR, FLOWER, COAT, CHAIR, TABLE)
LEGS = ((CAT, 4), (DOG, 4), (HORSE, 4), (COW, 4), (BIRD, 2), (DUCK, 2), (RABBIT, 4))
KINDS = (
    ("cat", "猫", "animal", "动物"), ("dog", "狗", "animal", "动物"),
    ("horse", "马", "animal", "动物"), ("duck", "鸭子", "animal", "动物"),
    ("rabbit", "兔子", "animal", "动物"), ("bird", "鸟", "animal", "动物"),
    ("apple", "苹果", "food", "食物"), ("egg", "鸡蛋", "food", "食物"),
    ("cake", "蛋糕", "food", "食物"), ("red", "红色", "colour", "颜色"),
    ("blue", "蓝色", "colour", "颜色"), ("green", "绿色", "colour", "颜色"),
)  # fmt: skip
LISTS = (
    ("animals", "cat, dog, horse", "动物", "猫、狗、马"),
    ("colours", "red, blue, green", "颜色", "红色、蓝色、绿色"),
    ("foods", "bread, rice, noodles", "食物", "面包、米饭、面条"),
    ("drinks", "tea, water, milk", "饮料", "茶、水、牛奶"),
    ("days", "Monday, Tuesday, Wednesday", "日子", "星期一、星期二、星期三"),
    ("numbers", "one, two, three", "数字", "一、二、三"),
)
GREETED = (("Anna", "安娜"), ("Tom", "汤姆"), ("the doctor", "医生"), ("the teacher", "老师"))


def instructions_en() -> Iterator[tuple[str, str]]:
    """Prompt and response of each English instruction."""
    for one, opposite in OPPOSITES:
        yield f"Say the opposite of {one}.", opposite
        yield f"Say the opposite of {opposite}.", one
    for a, b in COUNTS:
        yield (
            f"Count from {COUNT_EN[a]} to {COUNT_EN[b]}.",
            ", ".join(COUNT_EN[a : b + 1]),
        )
        yield (
            f"Count down from {COUNT_EN[b]} to {COUNT_EN[a]}.",
            ", ".join(COUNT_EN[a : b + 1][::-1]),
        )
    for a, b in PLUS:
        yield f"How much is {COUNT_EN[a]} plus {COUNT_EN[b]}?", COUNT_EN[a + b]
    for a, b in MINUS:
        yield f"How much is {COUNT_EN[a]} minus {COUNT_EN[b]}?", COUNT_EN[a - b]
    for thing in NOUNS:
        yield f"Write the plural of {thing.en}.", thing.plural
    for i in range(7):
        yield f"Which day comes before {DAYS[i][0]}?", DAYS[i - 1][0]
        yield f"Which day comes after {DAYS[i][0]}?", DAYS[(i + 1) % 7][0]
    for en, _, kind, _ in KINDS:
        kinds = ("animal", "food", "colour")
        name = en if kind == "colour" else article(en)
        real = "food" if kind == "food" else article(kind)
        yield f"Is {name} {real}?", f"Yes, {name} is {real}."
        other = kinds[(kinds.index(kind) + 1) % 3]
        wrong = "food" if other == "food" else article(other)
        yield f"Is {name} {wrong}?", f"No, {name} is {real}."
    for thing, legs in LEGS:
        n = COUNT_EN[legs]
        yield (
            f"How many legs does {article(thing.en)} have?",
            f"{capital(article(thing.en))} has {n} legs.",
        )
    for kind, three, _, _ in LISTS:
        yield f"Name three {kind}.", three
    for name, _ in GREETED:
        yield f"Say good morning to {name}.", f"Good morning, {name.removeprefix('the ')}!"


def instructions_zh() -> Iterator[tuple[str, str]]:
    """Prompt and response of each Chinese instruction."""
    for one, opposite in OPPOSITES_ZH:
        yield f"说出“{one}”的反义词。", opposite
        yield f"说出“{opposite}”的反义词。", one
    for i, j in COUNTS:
        yield f"从{COUNT_ZH[i]}数到{COUNT_ZH[j]}。", "、".join(COUNT_ZH[i : j + 1])
        yield f"从{COUNT_ZH[j]}倒数到{COUNT_ZH[i]}。", "、".join(COUNT_ZH[i : j + 1][::-1])
    for i, j in PLUS:
        yield f"{COUNT_ZH[i]}加{COUNT_ZH[j]}是多少？", COUNT_ZH[i + j]
    for i, j in MINUS:
        yield f"{COUNT_ZH[i]}减{COUNT_ZH[j]}是多少？", COUNT_ZH[i - j]
    for thing in NOUNS:
        yield f"“{thing.zh}”用什么量词？", f"一{thing.cl}{thing.zh}"
    for i in range(7):
        yield f"{DAYS[i][1]}的前一天是星期几？", DAYS[i - 1][1]
        yield f"{DAYS[i][1]}的后一天是星期几？", DAYS[(i + 1) % 7][1]
    for _, zh, _, kind in KINDS:
        kinds = ("动物", "食物", "颜色")
        other = kinds[(kinds.index(kind) + 1) % 3]
        yield f"{zh}是{kind}吗？", f"是的，{zh}是{kind}。"
        yield f"{zh}是{other}吗？", f"不是，{zh}是{kind}。"
    for thing, legs in LEGS:
        n = "两" if legs == 2 else COUNT_ZH[legs]
        yield f"一{thing.cl}{thing.zh}有几条腿？", f"一{thing.cl}{thing.zh}有{n}条腿。"
    for _, _, kind, three in LISTS:
        yield f"说出三种{kind}。", three
    for _, name in GREETED:
        yield f"对{name}说早上好。", f"早上好，{name}！"


INSTRUCTIONS_EN = list(instructions_en())
INSTRUCTIONS_ZH = list(instructions_zh())
