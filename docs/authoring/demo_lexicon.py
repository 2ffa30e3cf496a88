"""Words of the demo corpus in English and Chinese. Read by demo_sentences and demo_dialogues.

Written for this project, CC0-1.0. Chinese is written with a space between words (the segmentation
of the word times); the spaces vanish in the corpus.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One sentence in both languages; `zh` has a space between words."""

    en: str
    zh: str


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One question and its answer in both languages."""

    question: Pair
    answer: Pair


@dataclass(frozen=True, kw_only=True)
class Person:
    """A subject. `plain` is True where the verb takes no -s (I, we, they)."""

    en: str
    zh: str
    be: str = "is"
    plain: bool = False


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A countable noun; `cl` is the Chinese measure word."""

    en: str
    plural: str
    zh: str
    cl: str


def thing(en: str, zh: str, cl: str, plural: str | None = None) -> Thing:
    """A countable noun with a regular plural unless one is given."""
    return Thing(en=en, plural=plural or en + "s", zh=zh, cl=cl)


PRONOUNS = (
    Person(en="I", zh="我", be="am", plain=True),
    Person(en="we", zh="我们", be="are", plain=True),
    Person(en="they", zh="他们", be="are", plain=True),
    Person(en="he", zh="他"),
    Person(en="she", zh="她"),
)
NAMED = (
    Person(en="Tom", zh="汤姆"),
    Person(en="Anna", zh="安娜"),
    Person(en="my mother", zh="我 妈妈"),
    Person(en="my father", zh="我 爸爸"),
    Person(en="my brother", zh="我 哥哥"),
    Person(en="my sister", zh="我 姐姐"),
    Person(en="the teacher", zh="老师"),
    Person(en="the doctor", zh="医生"),
    Person(en="the boy", zh="那个 男孩"),
    Person(en="the girl", zh="那个 女孩"),
    Person(en="my friend", zh="我 的 朋友"),
)
PEOPLE = PRONOUNS + NAMED

CAT = thing("cat", "猫", "只")
DOG = thing("dog", "狗", "只")
RABBIT = thing("rabbit", "兔子", "只")
BIRD = thing("bird", "鸟", "只")
DUCK = thing("duck", "鸭子", "只")
HORSE = thing("horse", "马", "匹")
COW = thing("cow", "牛", "头")
FISH = thing("fish", "鱼", "条", "fish")
ANIMALS = (CAT, DOG, RABBIT, BIRD, DUCK, HORSE, COW, FISH)

BOOK = thing("book", "书", "本")
CUP = thing("cup", "杯子", "个")
HAT = thing("hat", "帽子", "顶")
BAG = thing("bag", "包", "个")
BOX = thing("box", "盒子", "个", "boxes")
BALL = thing("ball", "球", "个")
CAR = thing("car", "汽车", "辆")
FLOWER = thing("flower", "花", "朵")
COAT = thing("coat", "大衣", "件")
CHAIR = thing("chair", "椅子", "把")
TABLE = thing("table", "桌子", "张")
BED = thing("bed", "床", "张")
APPLE = thing("apple", "苹果", "个")
EGG = thing("egg", "鸡蛋", "个")
CAKE = thing("cake", "蛋糕", "个")
SMALL_THINGS = (BOOK, CUP, HAT, BAG, BOX, BALL)
GIFTS = (BOOK, CUP, HAT, BAG, BALL, FLOWER, COAT)

COLOURS = (
    ("red", "红色"),
    ("blue", "蓝色"),
    ("green", "绿色"),
    ("yellow", "黄色"),
    ("black", "黑色"),
    ("white", "白色"),
)
COAT_COLOURS = (("black", "黑"), ("white", "白"))  # of furs and feathers
SIZES = (("big", "大"), ("small", "小"))
NUMBERS = (
    ("two", "两"),
    ("three", "三"),
    ("four", "四"),
    ("five", "五"),
    ("six", "六"),
    ("seven", "七"),
    ("eight", "八"),
    ("nine", "九"),
    ("ten", "十"),
)
COUNT_EN = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
]  # fmt: skip
COUNT_ZH = [
    "零", "一", "二", "三", "四", "五", "六", "七", "八", "九", "十", "十一", "十二",
]  # fmt: skip
DAYS = (
    ("Monday", "星期一"),
    ("Tuesday", "星期二"),
    ("Wednesday", "星期三"),
    ("Thursday", "星期四"),
    ("Friday", "星期五"),
    ("Saturday", "星期六"),
    ("Sunday", "星期天"),
)
ON_DAYS = tuple((f"on {en}", zh) for en, zh in DAYS)

PLACES = (  # "to the …", "the … is near …"
    ("school", "学校"),
    ("park", "公园"),
    ("market", "市场"),
    ("shop", "商店"),
    ("station", "车站"),
    ("hospital", "医院"),
    ("library", "图书馆"),
    ("river", "河边"),
)
HABITS = (
    ("every day", "每天"),
    ("every morning", "每天 早上"),
    ("every evening", "每天 晚上"),
)
FOODS = (
    ("bread", "面包"),
    ("rice", "米饭"),
    ("noodles", "面条"),
    ("fish", "鱼"),
    ("eggs", "鸡蛋"),
    ("apples", "苹果"),
    ("cake", "蛋糕"),
)
DRINKS = (("tea", "茶"), ("water", "水"), ("milk", "牛奶"), ("coffee", "咖啡"), ("juice", "果汁"))


def article(words: str) -> str:
    """With a or an before it."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def capital(text: str) -> str:
    """First letter upper case."""
    return text[0].upper() + text[1:]


def pair(en: str, zh: str) -> Pair:
    """A statement: capital letter and full stops added."""
    return Pair(en=capital(en) + ".", zh=zh + "。")


def verb(person: Person, base: str, third: str) -> str:
    """The form of the verb that agrees with the subject."""
    return base if person.plain else third


def words_en(text: str) -> list[str]:
    """English words as written, without the punctuation around them."""
    return re.findall(r"[A-Za-z][A-Za-z']*", text)


def words_zh(segmented: str) -> list[str]:
    """Chinese words of a segmented text, punctuation dropped."""
    return [word for word in re.split(r"[\s，。？！、：“”]+", segmented) if word]


def plain_zh(segmented: str) -> str:
    """Segmented Chinese as it is written."""
    return segmented.replace(" ", "")
